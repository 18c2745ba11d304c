"""Disk space reserved for a search's last lines: how its trials ended must be written even to a full disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from launch.search.records import Records

ROOM_BYTES = 256 * 1024
NAME = ".room"


@contextlib.contextmanager
def kept_room(run_dir: Path) -> Iterator[Callable[[], None]]:
    """Reserve some space while the body runs. Yields the function that frees it."""
    path = run_dir / NAME

    def free() -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    with contextlib.suppress(OSError), path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
    try:
        yield free
    finally:
        free()


def end_running(records: Records) -> None:
    """Record trials that were cut off, by a second Ctrl-C or a crash of Ray, as interrupted."""
    for trial in list(records.trials.values()):
        if trial.status == "running":
            records.ended(trial.trial_id, "interrupted", "the search was stopped")
