"""One way to write a file: whole, and on the disk before anybody relies on it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from search_spaces.errors import DiskFull


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then move it there: a reader sees the old file or the new one, and so
    does whoever looks after a power cut. Afterwards the new one is on the disk. What a killed writer of `path` left is
    deleted.

    Raises DiskFull where there is no room for it, whatever `write` makes of that.
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
    """Make an empty file and lock it, so that others see that its writer lives."""
    while True:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: nobody deletes it there either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(partial, descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether a file has kept its name: another process may delete it before it is locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _forget_abandoned(path: Path) -> None:
    """Delete what killed processes left of `path`. A file that is still being written is locked by its writer."""
    name = re.compile(rf"\.{re.escape(path.name)}\.\d+\.partial")
    for left in [one for one in path.parent.iterdir() if name.fullmatch(one.name)]:
        with contextlib.suppress(OSError):
            # NFS locks only what may be written.
            descriptor = os.open(left, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
            finally:
                os.close(descriptor)


def _is_full(error: Exception, folder: Path) -> bool:
    """torch and safetensors say it in words of their own; what was written by then still takes the room."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return shutil.disk_usage(folder).free < 2**20


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk: a rename or a new file is there after a power cut only then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and bring their entries to the disk."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in reversed(made):
        sync_folder(one.parent)
