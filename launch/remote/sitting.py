"""A search's time at a run that is on S3: checked before, locked and mirrored while it lasts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launch.lock import held
from launch.preflight import check_room, check_runs_dir
from launch.records import exists_already
from launch.remote.lock import RemoteLock
from launch.remote.mirror import Mirror
from launch.remote.places import Place
from launch.remote.probe import probe_writing
from search_spaces.errors import StorageError


def check_new(place: Place) -> None:
    """Raises RunError or StorageError where there is such a run already, or one cannot be written there."""
    if place.remote is None:
        check_runs_dir(place.folder)
        return
    remote = place.remote.hurried()
    probe_writing(remote.parent)
    if remote.exists("search.json"):
        raise exists_already(place.remote)
    check_room(place.folder.parent)


@contextmanager
def mirrored(place: Place, say: Callable[[str], object], *, new: bool = False) -> Iterator[Mirror | None]:
    """While the body works in the folder, S3 is kept up to date, and no other process works on the run; None for a
    folder that is the run itself. new: there must be none; else its records are brought.

    Raises RunError where another process works on it, or where it exists or is missing; StorageError.
    """
    if place.remote is None:
        yield None
        return
    lock = RemoteLock(place.remote)
    lock.acquire(say)
    try:
        mirror = Mirror(place.remote, place.folder, lock)
        if new and place.remote.exists("search.json"):
            raise exists_already(place.remote)
        if (place.folder / "trials.jsonl").exists():
            with held(place.folder):
                pass  # no process here works on it
        if new and place.folder.exists():  # of a run that is no longer on S3
            shutil.rmtree(place.folder)
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
