"""Write files atomically, and flush them to disk before anything relies on them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from visionsweep.core.errors import DiskFull


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it to `path`.

    A reader sees the old file or the new one, also after a power cut. On return the new one is on the disk. Partial
    files of killed writers of `path` are deleted.

    Raises DiskFull if there is no room, whatever `write` itself raises then.
    """
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _forget_abandoned(path)
        with _locked(partial):
            write(partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        sync_folder(path.parent)  # else a power cut may bring the old file back
    except Exception as error:
        if not _is_full(error, path.parent):
            raise
        raise DiskFull(f"{path}: the disk is full. Free some space.") from None
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Make an empty file and lock it, so that other processes see that its writer is alive."""
    while True:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            with contextlib.suppress(OSError):  # without locks nobody deletes it either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(partial, descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Say whether a file still has its name. Another process may delete it before it is locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _forget_abandoned(path: Path) -> None:
    """Delete the partial files of `path` that killed processes left. A live writer holds the lock of its own."""
    name = re.compile(rf"\.{re.escape(path.name)}\.\d+\.partial")
    for left in [one for one in path.parent.iterdir() if name.fullmatch(one.name)]:
        with contextlib.suppress(OSError):
            # NFS locks only files that are open for writing.
            descriptor = os.open(left, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
            finally:
                os.close(descriptor)


def _is_full(error: Exception, folder: Path) -> bool:
    """Say whether the disk is full.

    torch and safetensors raise errors of their own then. So the free space decides, while the partial file exists.
    """
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return shutil.disk_usage(folder).free < 2**20


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk. Only then does a rename or a new file survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, and flush their entries to disk."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in reversed(made):
        sync_folder(one.parent)
