"""Whether somebody works on a run: `launch/records.py` holds its lock."""

from __future__ import annotations

import fcntl
from pathlib import Path


def in_use(run_dir: Path) -> bool:
    """Whether a process works on the run, on this machine or on another one that shares the folder."""
    try:
        with (run_dir / "trials.jsonl").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False
