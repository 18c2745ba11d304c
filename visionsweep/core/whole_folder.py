"""Write a folder as a whole: under another name first, then renamed.

    NAME.partial-PID                the new folder while it is written; the next writer deletes those of killed ones
    .NAME.replaced-by-visionsweep   the old folder between two renames; `mend` undoes a kill at that moment

Not every file system can replace a folder with files in one step. So the old one is renamed before the new one takes
its name. At every moment a complete one exists.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from visionsweep.core.writing import make_folder, sync_folder


@contextlib.contextmanager
def new_folder(out: Path, finish: Callable[[Path], object], is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield an empty folder that replaces `out` after the block, flushed to disk. On an error the old one stays.

    finish   called with the folder when the block has ended
    is_ours  says whether an abandoned partial folder beside `out` may be deleted

    Raises OSError if it cannot be written.
    """
    out = Path(os.path.realpath(out))
    make_folder(out.parent)
    mend(out)
    _forget_abandoned(out, is_ours)
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        with _locked(partial):
            yield partial
            finish(partial)
            if out.is_dir():
                shutil.copymode(out, partial)
            _sync_below(partial)
            _swap(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def mend(out: Path) -> None:
    """Give the old folder its name back if a process was killed between the two renames."""
    out = Path(os.path.realpath(out))
    if os.path.lexists(out) or not _aside(out).is_dir():
        return
    # On a read-only disk the reader will report that the folder is missing.
    with contextlib.suppress(OSError), _locked(out.parent):
        if not os.path.lexists(out):  # else another process has put the new one there
            _aside(out).rename(out)


def _aside(out: Path) -> Path:
    return out.with_name(f".{out.name}.replaced-by-visionsweep")


def _swap(partial: Path, out: Path) -> None:
    with _locked(out.parent):
        if not out.is_dir() or not any(out.iterdir()):
            partial.rename(out)  # over an empty folder in one step
            sync_folder(out.parent)
            return
        aside = _aside(out)
        if aside.exists():
            shutil.rmtree(aside)  # an older folder, left by a kill
        out.rename(aside)
        try:
            partial.rename(out)
        except OSError:
            aside.rename(out)
            raise
        sync_folder(out.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _forget_abandoned(out: Path, is_ours: Callable[[Path], bool]) -> None:
    """Delete the partial folders that killed processes left beside `out`. A live writer holds the lock of its own."""
    left = [path for path in out.parent.iterdir() if re.fullmatch(rf"{re.escape(out.name)}\.partial-\d+", path.name)]
    for path in left:
        with contextlib.suppress(OSError), _locked(path, wait=False) as is_locked:
            if is_locked and not path.is_symlink() and is_ours(path):
                shutil.rmtree(path)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a folder. Yield False if it is taken, or the file system has no locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            is_locked = True
        except OSError:
            is_locked = False
        yield is_locked
    finally:
        os.close(descriptor)


def _sync_below(folder: Path) -> None:
    """Flush every file of a folder, and the folders themselves, to disk."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            with Path(root, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(root))
