"""Synchronisation of appended lines with the disk, every few seconds, off the search's path.

A line that was written survives a kill at once, as the kernel has it. A power cut loses what was written since the last
sync, SYNC_EVERY_S ago at most. The end of a trial is synced at once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from visionsweep.core.errors import RunError

SYNC_EVERY_S = 2.0

_log = logging.getLogger(__name__)


class Syncer:
    """Thread that syncs files to which lines are appended, between `start` and `close`.

    paths: in the order in which they are synced. A later one never knows more than an earlier one.
    """

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.changed: set[Path] = set()
        self.later: list[Callable[[], object]] = []
        self.failed = ""
        self.wanted = threading.Event()
        self.ended = threading.Event()
        self.guard = threading.Lock()
        self.syncing = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="records-sync", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def close(self) -> None:
        """End the thread, and sync what is left."""
        self.ended.set()
        self.wanted.set()
        if self.thread.is_alive():
            self.thread.join()
        self.sync()

    def appended(self, path: Path, *, soon: bool = False) -> None:
        """Note that lines were appended. Raises RunError if earlier ones could not be brought to the disk."""
        if self.failed:
            raise RunError(self.failed)
        with self.guard:
            self.changed.add(path)
        if soon:
            self.wanted.set()

    def after(self, do: Callable[[], object]) -> None:
        """Call `do` once the lines appended so far are on the disk."""
        with self.guard:
            self.later.append(do)
        self.wanted.set()

    def sync(self) -> None:
        """Bring all appended lines to the disk, then call what waits for them."""
        with self.syncing:
            with self.guard:
                changed = self.changed
                self.changed = set()
                later = self.later
                self.later = []
            for path in self.paths:
                if path in changed and not self._synced(path):
                    return
            for do in later:
                try:
                    do()
                except OSError as error:  # a file that was not deleted only takes room
                    _log.warning("%s", error)

    def _synced(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.failed = f"{path}: could not be brought to the disk ({error.strerror}). Mend the disk, then resume."
            _log.warning(self.failed)
            return False
        return True

    def _run(self) -> None:
        while not self.ended.is_set():
            self.wanted.wait(SYNC_EVERY_S)
            self.wanted.clear()
            self.sync()
