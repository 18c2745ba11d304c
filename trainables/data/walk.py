"""Walking folders as people have them: with links, loops, rights that are missing and what systems leave behind.

Each real folder is walked once. A link to a folder is followed, unless it leads back to what is walked anyway.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from trainables.data.endings import IMAGE_SUFFIXES, NO_ENDING, begins_as_an_image, is_left_out, left_out_notes
from trainables.data.plain_files import open_plain
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted, under

# Files that Windows, macOS and network storage leave behind, in lower case.
NOT_DATA = (
    "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information", "__macosx",
    "icon\r", "@eadir", "@recycle", "#recycle", "#snapshot", "lost+found",
)  # fmt: skip
MOST_SNIFFED = 200  # files without an ending that are opened to see whether they are images

Entry = os.DirEntry[str]


class Walk:
    """One pass over a data set's folders, which records what it left out and which links it followed.

    root: names are relative to it. starts: all folders that will be walked. A link to one of them, into it or above it
    adds nothing.

    Raises DataError where two of the starts are one folder, or one is inside another.
    """

    def __init__(self, root: Path, starts: Sequence[Path]) -> None:
        self.root = root
        self.left_out: Counter[str] = Counter()
        self.followed: list[str] = []
        self.led_back: list[str] = []
        self._starts = _real_starts(root, starts)
        self._first_to: dict[tuple[int, int], tuple[str, str]] = {}  # a folder behind a link -> (link, whose)
        self._sniffed = 0

    def files(self, folder: Path, suffixes: tuple[str, ...], whose: str = "") -> list[str]:
        """Return the sorted names of the files below `folder` with these endings, at any depth, without hidden ones.

        `whose` describes the files, such as their class. Raises DataError for a folder that cannot be read, and if
        links give one folder to two classes.
        """
        names: list[str] = []
        if folder != self.root and folder.is_symlink():  # the root was named by the user, and needs no note
            self.followed.append(relative(folder, self.root))
        waiting = [(folder, relative(folder, self.root), "")]  # (folder, its name, the link that led there)
        while waiting:
            where, below, via = waiting.pop()
            for entry in visible(where):
                name = under(below, entry.name)
                if not is_folder(entry):
                    if ends_in(entry.name, suffixes):
                        names.append(name)
                    else:
                        self._see_left_out(entry)
                elif entry.is_symlink():
                    if self._leads_elsewhere(entry) and self._is_new(entry, name, whose):
                        self.followed.append(name)
                        waiting.append((Path(entry.path), name, name))
                    else:
                        self.led_back.append(name)
                elif not via or self._is_new(entry, via, whose):
                    waiting.append((Path(entry.path), name, via))
        return sorted(names)

    def notes(self) -> list[str]:
        """Return sentences about links, and about files that are left out for their ending."""
        notes = []
        if self.followed:
            notes.append(f"{counted(len(self.followed), 'link')} to folders followed: {quoted(sorted(self.followed))}.")
        if self.led_back:
            notes.append(
                f"{counted(len(self.led_back), 'link')} left out, leading back to folders that are walked anyway: "
                f"{quoted(sorted(self.led_back))}."
            )
        return notes + left_out_notes(self.left_out)

    def _leads_elsewhere(self, link: Entry) -> bool:
        real = os.path.realpath(link.path)
        return not any(_is_inside(real, start) or _is_inside(start, real) for start in self._starts)

    def _is_new(self, folder: Entry, via: str, whose: str) -> bool:
        """Whether no link has led to this folder before. Only what is behind links needs to be remembered."""
        status = os.stat(folder.path)
        identity = (status.st_dev, status.st_ino)
        if identity not in self._first_to:
            self._first_to[identity] = (via, whose)
            return True
        first, other = self._first_to[identity]
        if other != whose:
            raise DataError(
                f"'{first}' and '{via}' lead to the same folder '{os.path.realpath(folder.path)}', so its images would "
                "be of two classes or splits. Remove one of the links."
            )
        return False

    def _see_left_out(self, entry: Entry) -> None:
        suffix = os.path.splitext(entry.name)[1].lower()
        if is_left_out(suffix):
            self.left_out[suffix] += 1
        elif not suffix and self._sniffed < MOST_SNIFFED:
            self._sniffed += 1
            if begins_as_an_image(_head(entry.path)):
                self.left_out[NO_ENDING] += 1


def images_below(root: Path, folder: Path) -> list[str]:
    """Images at any depth, but not hidden ones: sorted names relative to the root, the same on every file system."""
    return files_below(root, folder, IMAGE_SUFFIXES)


def files_below(root: Path, folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Return the files below a folder with these suffixes, like `images_below`."""
    return Walk(root, [folder]).files(folder, suffixes)


def notes_below(root: Path, folders: Sequence[str]) -> list[str]:
    """Return a walk's notes on each of these folders. They are walked apart, as several may link to the same one."""
    total = Walk(root, ())
    for folder in folders:
        walk = Walk(root, [root / folder])
        walk.files(root / folder, IMAGE_SUFFIXES)
        total.left_out += walk.left_out
        total.followed += walk.followed
        total.led_back += walk.led_back
    return total.notes()


def visible(folder: Path) -> list[Entry]:
    """Return a folder's entries sorted by name, without hidden ones. Raises DataError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(_unreadable(folder, error)) from error


def subfolders(folder: Path) -> list[str]:
    """The sorted names of the folders in a folder."""
    return [entry.name for entry in visible(folder) if is_folder(entry)]


def images_in(folder: Path) -> list[str]:
    """Return the sorted names of the images directly in a folder."""
    return [entry.name for entry in visible(folder) if ends_in(entry.name, IMAGE_SUFFIXES) and not is_folder(entry)]


def is_folder(entry: Entry) -> bool:
    """Whether an entry is a folder or a link to one. Raises DataError for a possible folder that cannot be reached."""
    has_ending = bool(os.path.splitext(entry.name)[1])  # a file: reading it will report what is wrong
    try:
        if entry.is_dir():
            return True
    except OSError as error:
        if not has_ending:
            raise DataError(_unreadable(entry.path, error)) from error
        return False
    if entry.is_symlink() and not has_ending and not os.path.exists(entry.path):
        raise DataError(
            f"'{entry.path}' is a link to '{os.readlink(entry.path)}', which does not exist. "
            "Restore what it leads to, or remove the link."
        )
    return False


def is_hidden(name: str) -> bool:
    """Whether a file or a folder is no data: its name begins with a dot, or systems leave it behind."""
    return name.startswith(".") or name.lower() in NOT_DATA


def ends_in(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes)


def relative(path: Path, root: Path) -> str:
    """The path below the root with '/', '' for the root itself."""
    name = path.relative_to(root).as_posix()
    return "" if name == "." else name


def _real_starts(root: Path, starts: Sequence[Path]) -> list[str]:
    real = sorted(((os.path.realpath(start), start) for start in starts), key=lambda pair: pair[0].split(os.sep))
    for (above, first), (inside, second) in pairwise(real):
        if _is_inside(inside, above):
            names = quoted([relative(first, root), relative(second, root)])
            what = "are the same folder" if inside == above else "hold the same images, as one is inside the other"
            raise DataError(f"{names} {what}, by a link. Remove one of them.")
    return [path for path, _ in real]


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _unreadable(folder: Path | str, error: OSError) -> str:
    return f"'{folder}' cannot be read: {error.strerror or error}. Check its rights."


def _head(path: str) -> bytes:
    try:
        with open_plain(Path(path)) as file:
            return file.read(16)
    except OSError:
        return b""
