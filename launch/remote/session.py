"""A session of work on a run that is kept on S3: checked before it, locked and mirrored while it lasts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launch.remote.location import RunLocation
from launch.remote.lock import RemoteLock
from launch.remote.mirror import Mirror
from launch.remote.probe import probe_writing
from launch.search.preflight import check_room, check_runs_dir
from launch.search.records import exists_already
from visionsweep.core.errors import StorageError
from visionsweep.run_dir.files import SEARCH_FILE, TRIALS_FILE
from visionsweep.run_dir.lock import held


def check_new(location: RunLocation) -> None:
    """Raise RunError or StorageError if there is such a run already, or none can be written there."""
    if location.remote is None:
        check_runs_dir(location.folder)
        return
    remote = location.remote.hurried()
    probe_writing(remote.parent)
    if remote.exists(SEARCH_FILE):
        raise exists_already(location.remote)
    check_room(location.folder.parent)


@contextmanager
def mirrored(location: RunLocation, say: Callable[[str], object], *, new: bool = False) -> Iterator[Mirror | None]:
    """Lock the run, and mirror the folder to S3 while the body works in it.

        location  of the run; for a folder that is the run itself the mirror is None
        say       prints a sentence to the user
        new       the run must not exist; otherwise its records are fetched

    Raises RunError if another process works on the run, or if it exists or is missing. Raises StorageError.
    """
    if location.remote is None:
        yield None
        return
    lock = RemoteLock(location.remote)
    lock.acquire(say)
    try:
        mirror = Mirror(location.remote, location.folder, lock)
        if new and location.remote.exists(SEARCH_FILE):
            raise exists_already(location.remote)
        if (location.folder / TRIALS_FILE).exists():
            with held(location.folder):
                pass  # raises if a process here works on it
        if new and location.folder.exists():  # a working copy of a run that is no longer on S3
            shutil.rmtree(location.folder)
        if not new:
            mirror.fetch()
        mirror.start()
        try:
            yield mirror
        finally:
            _close(mirror)
    finally:
        lock.release()


def _close(mirror: Mirror) -> None:
    try:
        mirror.close()
    except StorageError as error:
        raise StorageError(
            f"{error} What was recorded last is in {mirror.folder}: `visionsweep resume {mirror.uri}` on this machine "
            "sends it."
        ) from None
