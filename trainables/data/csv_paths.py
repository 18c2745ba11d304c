"""Map the cells of a column `image` to files below the table's folder."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from trainables.data.csv_separators import shown
from trainables.data.reading import IMAGE_SUFFIXES
from visionsweep.core.errors import DataError

# Names with slashes between them, none of which is `.` or `..`: nothing to settle.
_PLAIN = re.compile(r"(?!\.\.?(?:/|$))[^/\\]+(?:/(?!\.\.?(?:/|$))[^/\\]+)*")


def image_name(spec: str, line: int, cell: str, root: Path) -> str:
    """Return the image's path relative to the root. Raises DataError if it leads out of the root.

    Only its words are checked, not where links lead: a data folder's `images` is often a link to a bigger disk.
    """
    if _PLAIN.fullmatch(cell):  # as almost all are, of what may be a million
        return cell
    if re.match(r"[a-z][a-z0-9+.-]+://", cell.lower()):
        raise DataError(
            f"{spec}, line {line}: '{shown(cell)}' is an address, and images are files below the folder of the table. "
            "Download them, and name the files."
        )
    if "\\" in cell and not is_file(root / cell):  # Windows: here a backslash is an ordinary character
        cell = cell.replace("\\", "/")
    name = os.path.relpath(os.path.join(root, cell), root)
    if not cell or name.split(os.sep)[0] == os.pardir:
        what = f"image '{shown(cell)}' leads out of the data folder" if cell else "the image cell is empty"
        near = near_file(root, cell) if cell else None
        hint = f" Is it '{near}'?" if near else ""
        raise DataError(
            f"{spec}, line {line}: {what}.{hint} Paths are relative to the folder of the table and stay inside it. "
            "Fix the row, or move the image there."
        )
    return Path(name).as_posix()


def is_file(path: Path | str) -> bool:
    """Like `Path.is_file`, but False for a name that no file system takes."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # at a third of what a Path takes
    except (OSError, ValueError):
        pass
    try:
        return Path(path).is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def near_file(root: Path, cell: str) -> str | None:
    """Return a file below the root that the cell may mean, with another ending or in another folder, or None."""
    for name in _candidates(root, cell):
        if is_file(root / name):
            return name
    return None


def _candidates(root: Path, cell: str) -> Iterator[str]:
    pieces = [piece for piece in re.split(r"[\\/]+", cell) if piece not in ("", ".", "..")]
    if not pieces:
        return
    ends = [pieces[-1], *_endings(pieces[-1])]
    for start in range(len(pieces)):  # the leading folders are another machine's
        yield from ("/".join([*pieces[start:-1], name]) for name in ends)
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    for folder in folders:
        yield from (f"{folder}/{name}" for name in ends)


def _endings(name: str) -> Iterator[str]:
    stem, ending = os.path.splitext(name)
    for base in (stem, name) if ending.lower() in IMAGE_SUFFIXES else (name,):
        for suffix in IMAGE_SUFFIXES:
            yield base + suffix
            yield base + suffix.upper()
