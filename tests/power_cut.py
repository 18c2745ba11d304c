"""What a file system may leave of a directory when the power fails.

The writes of a piece of code are recorded, and every state that they allow is laid out again. ALICE does so (Pillai et
al. 2014, "All file systems are not created equal").

The model is the weakest that POSIX allows. A file's contents are sure only after its own fsync. A name, a rename or a
deletion is sure only after an fsync of its folder. Until then each may be there or not, in any order. Appended bytes
may be missing, torn, or zero.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TORN = ("lost", "there", "torn", "zero", "zero first")


@dataclass
class _File:
    """A file. synced: the sure contents, none for a new file."""

    synced: bytes = b""
    now: bytes = b""

    def left(self, how: str) -> bytes:
        if self.synced == self.now or how == "there":
            return self.now
        if not self.now.startswith(self.synced):  # cut, or written over
            return self.synced if how == "lost" else self.now
        fresh = self.now[len(self.synced) :]
        half = len(fresh) // 2
        return (
            self.synced
            + {
                "lost": b"",
                "torn": fresh[:half],
                "zero": b"\0" * len(fresh),
                "zero first": b"\0" * half + fresh[half:],
            }[how]
        )


@dataclass
class Disk:
    """Names below a folder, and what a crash may leave of them.

    A change is (folder, name, file or 'folder' or None, the name that a rename leaves or None).
    """

    sure: dict[str, Any] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    waiting: list[tuple[str, str, Any, str | None]] = field(default_factory=list)

    def change(self, name: str, what: Any, leaves: str | None = None) -> None:
        self.waiting.append((str(Path(name).parent), name, what, leaves))
        _apply(self.names, self.waiting[-1])

    def sync_folder(self, folder: str) -> None:
        for change in self.waiting:
            if change[0] == folder:
                _apply(self.sure, change)
        self.waiting = [change for change in self.waiting if change[0] != folder]

    def left(self) -> Iterator[tuple[str, dict[str, bytes | None]]]:
        """Yield every state that a crash may leave: (which, content by name), where a folder's content is None."""
        seen = set()
        for number, chosen in enumerate(_subsets(self.waiting)):
            names = dict(self.sure)
            for change in chosen:
                _apply(names, change)
            for how in TORN:
                state = {name: what if what is None else what.left(how) for name, what in names.items()}
                whole = {name: content for name, content in state.items() if _has_folders(name, state)}
                key = tuple(sorted((name, content or b"") for name, content in whole.items()))
                if key not in seen:
                    seen.add(key)
                    yield f"subset {number} of {len(self.waiting)} changes, bytes {how}", whole


def _apply(names: dict[str, Any], change: tuple[str, str, Any, str | None]) -> None:
    _, name, what, leaves = change
    if what == "gone":
        names.pop(name, None)
    else:
        names[name] = what
    if leaves is not None:
        names.pop(leaves, None)


def _subsets(changes: list[Any]) -> Iterator[list[Any]]:
    """Yield no change, all, every prefix, each alone and all but each: orders that matter between few changes."""
    yield from (changes[:end] for end in range(len(changes) + 1))
    yield from ([change] for change in changes)
    yield from (changes[:place] + changes[place + 1 :] for place in range(len(changes)))


def _has_folders(name: str, state: dict[str, Any]) -> bool:
    above = [str(folder) for folder in Path(name).parents if str(folder) != "."]
    return all(folder in state and state[folder] is None for folder in above)


class Recording:
    """Record every change below `root`, by the functions of `os` that make it, and call `moment` after each."""

    def __init__(self, root: Path, moment: Callable[[Disk], None]) -> None:
        self.root = root.resolve()
        self.moment = moment
        self.disk = Disk()
        self.quiet = False

    def start(self, patch: pytest.MonkeyPatch) -> None:
        for name in ("open", "write", "ftruncate", "fsync", "fdatasync", "replace", "unlink", "rmdir", "mkdir"):
            patch.setattr(os, name, self._told(name, getattr(os, name)))

    def _told(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def told(*arguments: Any, **options: Any) -> Any:
            if self.quiet:  # what is laid out need not survive anything
                return None if name.endswith("sync") else real(*arguments, **options)
            place = self._place(arguments[0], options.get("dir_fd"))
            was_there = place is not None and os.path.lexists(self.root / place)
            done = real(*arguments, **options)
            if place is not None and self._took(name, place, arguments, was_there):
                self.quiet = True
                try:
                    self.moment(self.disk)
                finally:
                    self.quiet = False
            return done

        return told

    def _took(self, name: str, place: str, arguments: tuple[Any, ...], was_there: bool) -> bool:
        path = self.root / place
        disk = self.disk
        if name == "open":
            if was_there or not arguments[1] & os.O_CREAT:
                return False
            disk.change(place, _File())
        elif name == "mkdir":
            disk.change(place, None)
        elif name in ("unlink", "rmdir"):
            disk.change(place, "gone")
        elif name == "replace":
            target = self._place(arguments[1], None)
            assert target is not None
            file = disk.names.get(place) or _File()
            file.now = (self.root / target).read_bytes()
            disk.change(target, file, leaves=place)
        elif name in ("write", "ftruncate"):
            disk.names[place].now = path.read_bytes()
        elif path.is_dir():
            disk.sync_folder("." if place == "" else place)
        else:
            if place not in disk.names:
                disk.change(place, _File())
            file = disk.names[place]
            file.now = file.synced = path.read_bytes()
        return True

    def _place(self, what: Any, dir_fd: int | None) -> str | None:
        """Below the root, else None."""
        if isinstance(what, int):
            path = Path(os.readlink(f"/proc/self/fd/{what}"))
        elif dir_fd is not None:
            path = Path(os.readlink(f"/proc/self/fd/{dir_fd}")) / os.fspath(what)
        else:
            path = Path(os.path.abspath(os.fspath(what)))
        if not path.is_relative_to(self.root):
            return None
        return path.relative_to(self.root).as_posix()


def lay_out(state: dict[str, bytes | None], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in sorted(state, key=lambda name: name.count("/")):
        content = state[name]
        if content is None:
            (folder / name).mkdir(exist_ok=True)
        else:
            (folder / name).write_bytes(content)
