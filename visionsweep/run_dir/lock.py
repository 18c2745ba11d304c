"""The lock of a run: one process at a time works on it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visionsweep.core.errors import RunError
from visionsweep.core.files import check_plain
from visionsweep.run_dir.files import TRIALS_FILE


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run while the body runs. It ends with the process at the latest.

    Raises RunError if another process holds it.
    """
    check_plain(run_dir / TRIALS_FILE)
    with disk_errors(run_dir):
        # Open for writing: NFS locks nothing else.
        descriptor = os.open(run_dir / TRIALS_FILE, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        for attempt in range(5):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 4:
                    raise RunError(
                        f"{run_dir}: another process is working on this run. Wait for it, or stop it with Ctrl-C."
                    ) from None
                time.sleep(0.1)  # `in_use` may hold it for a moment, to look
        yield
    finally:
        os.close(descriptor)


class disk_errors:  # noqa: N801 (reads as a statement)
    """Turn a full disk or a read-only folder into a RunError of one sentence."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise RunError(
                f"{self.run_dir}: cannot be written ({error.strerror or error}). "
                "Free some space or choose another --runs-dir."
            ) from None
