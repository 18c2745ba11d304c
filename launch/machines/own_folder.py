"""A private folder of this process, for what lives as long as a search: Ray's sockets and logs, Ray Tune's state.

Ray opens its own folder to every user of the machine (0777). So Ray gets one inside a folder that only this user may
enter. A killed process leaves its folder behind, and the next process removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from visionsweep.core.errors import ConfigError
from visionsweep.core.printable import printable

PREFIX = "vsw-"
OLD_PREFIX = "visionsweep-"  # of folders without a lock, in which 0.4 and older kept Ray Tune's state
LOCK = "lock"
UNLOCKED_S = 3600.0  # a folder without a lock is being made, or was left half removed
OLD_S = 7 * 24 * 3600.0
VARIABLES = ("RAY_TMPDIR", "TMPDIR")  # as Ray reads them
# The longest path that Ray and tempfile add to the location of the folder. A Unix socket's path has at most 107 bytes.
ADDED = "/vsw-12345678/r/session_2026-11-30_07-52-54_471432_4194304/sockets/plasma_store"
MAX_PLACE = 107 - len(ADDED)
ANY_LENGTH = 4096 - len(ADDED)


@contextlib.contextmanager
def own_folder(max_letters: int = MAX_PLACE) -> Iterator[Path]:
    """Make the folder, and remove it after the body. Raises ConfigError where no location will do.

    `max_letters` is the longest path of the location. The default leaves room for Ray's sockets.
    """
    place = _place(max_letters)
    _remove_leftovers(place)
    folder, lock = _locked_folder(place)
    try:
        yield folder
    finally:
        # Ray's agents end a moment after Ray has, and write until then.
        for _ in range(3):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.2)
        os.close(lock)


def _place(max_letters: int) -> Path:
    """Return the first folder that can be written and is short enough, the user's own settings first."""
    named = {f"{name} ({os.environ[name]})": os.environ[name] for name in VARIABLES if os.environ.get(name)}
    # The runtime folder last: it is in memory.
    others = {"/tmp": "/tmp", "XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR", "")}
    refused: list[str] = []
    for name, path in {**named, **others}.items():
        why = _why_not(path, max_letters) if path else "it is not set"
        if why:
            refused.append(f"Ray's folder cannot lie in {name}: {why}")
            continue
        if refused:
            print(f"visionsweep: {printable(refused[0])}. It takes {path} instead.", file=sys.stderr, flush=True)
        return Path(path).absolute()
    raise ConfigError(
        f"{refused[0]}. Set RAY_TMPDIR to a folder that can be written, of {max_letters} letters at most."
    )


def _why_not(path: str, max_letters: int) -> str:
    """Return why a folder will not do, or '' where it will."""
    place = os.path.abspath(path)
    length = len(os.fsencode(place))
    if length > max_letters:
        return f"it has {length} letters, and the path of a socket leaves room for {max_letters}"
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"it cannot be written ({error.strerror or error})"


def _locked_folder(place: Path) -> tuple[Path, int]:
    """Make a new folder and return it with its lock, which ends with this process."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))  # 0700
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (folder / LOCK).exists():
            return folder, lock
        os.close(lock)  # another search took it for a leftover


def _remove_leftovers(place: Path) -> None:
    """Remove the folders that killed processes of this user have left: their locks are free."""
    for path in place.glob(f"{PREFIX}{'?' * 8}"):
        with contextlib.suppress(OSError):
            if _is_ours(path) and path.is_dir() and _is_left(path):
                shutil.rmtree(path, ignore_errors=True)
    for path in place.glob(f"{OLD_PREFIX}*"):
        with contextlib.suppress(OSError):
            if _is_ours(path) and time.time() - _last_change(path) > OLD_S:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _is_ours(path: Path) -> bool:
    return not path.is_symlink() and path.lstat().st_uid == os.getuid()


def _is_left(folder: Path) -> bool:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime > UNLOCKED_S
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:  # held, or a file system without locks
        return False
    finally:
        os.close(lock)


def _last_change(path: Path) -> float:
    within = [path, *path.rglob("*")] if path.is_dir() else [path]
    return max(one.lstat().st_mtime for one in within)
