"""Whether a process works on a run: `launch/search/records.py` holds its lock."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from visionsweep.run_dir.files import TRIALS_FILE


def in_use(run_dir: Path) -> bool:
    """Return whether a process works on the run, on this machine or another one that shares the folder."""
    try:
        descriptor = os.open(run_dir / TRIALS_FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # missing or unreadable: reading the run will say why
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
