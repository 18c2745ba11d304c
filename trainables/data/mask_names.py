"""Read the files in which people name the classes of their masks.

    classes.txt         a name a line, the first for value 0
    class_names.txt     the same, as labelme writes it, where '_background_' is background
    palette.txt         'R G B name' a line. Also label_colors.txt, as CamVid has it
    labelmap.txt        'name:R,G,B::' a line, as CVAT and Datumaro write it
    _classes.csv        'Pixel Value, Class', as Roboflow writes it into each folder of a split
    labels.txt          read only where none of these is there. Also label_names.txt and codes.txt

A first line '__ignore__' (labelme's) stands for value 255 and is not counted as a line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.dataset import VOID
from trainables.data.masks import Color
from trainables.data.reading import IMAGE_SUFFIXES
from visionsweep.core.errors import DataError
from visionsweep.core.words import below, quoted

LINE_FILES = ("classes.txt", "class_names.txt")
PALETTE_FILES = ("palette.txt", "label_colors.txt", "labelmap.txt")
VALUE_FILE = "_classes.csv"
WEAK_FILES = ("labels.txt", "label_names.txt", "codes.txt")  # other things are called so too
VOID_NAMES = ("void", "ignore", "unlabeled", "unlabelled", "__ignore__")


@dataclass(frozen=True)
class Names:
    """The contents of the files. Each part is empty if there is no such file.

    lines    names of the values 0, 1, ..., from `file`
    colors   (colour, name), from `palette`
    values   (value, name), ascending, from _classes.csv
    """

    lines: tuple[str, ...] = ()
    file: str = ""
    colors: tuple[tuple[Color, str], ...] = ()
    palette: str = ""
    values: tuple[tuple[int, str], ...] = ()

    def notes(self) -> list[str]:
        """Return a note about a file that was read, unless visionsweep's messages ask for that file."""
        own = ("classes.txt", "palette.txt", "label_colors.txt")
        read = [file for file in (self.file, self.palette) if file and file not in own]
        return [f"The classes are named by {' and '.join(read)}."] if read else []


def is_void(name: str) -> bool:
    return name.lower() in VOID_NAMES


def read_names(spec: str, root: Path, places: Sequence[str], value_places: Sequence[str] = ()) -> Names:
    """Read the files in `places`, folders below the root. `value_places` are searched for _classes.csv too.

    Raises DataError where a file is wrong, or two of them disagree.
    """
    found = {file: path for file in LINE_FILES if (path := _first(root, places, file))}
    palettes = [(file, path) for file in PALETTE_FILES if (path := _first(root, places, file))]
    all_lines = {file: _read_lines_file(spec, root, path) for file, path in found.items()}
    colors: tuple[tuple[Color, str], ...] = ()
    palette = ""
    for file, path in palettes:
        if file != "labelmap.txt":
            colors = _read_palette(spec, root, path)
            palette = file
            break
        names, colors = _read_labelmap(spec, root, path)
        if colors:
            palette = file
        else:
            all_lines[file] = names
    values = _read_values(spec, root, dict.fromkeys([*places, *value_places]))
    if values and not all_lines and not colors:
        return Names(values=values, file=VALUE_FILE)
    if not all_lines and not colors:
        for file in WEAK_FILES:
            path = _first(root, places, file)
            if path is not None and _holds_names(spec, root, path):
                all_lines = {file: _read_lines_file(spec, root, path)}
                break
    (file, lines), *others = all_lines.items() or [("", ())]
    for other, other_lines in [*others, *([(VALUE_FILE, tuple(name for _, name in values))] if values else [])]:
        if lines and other_lines != lines:
            raise DataError(
                f"{spec}: {file} names {quoted(lines)}, and {other} {quoted(other_lines)}. "
                "Make them agree line by line, or remove one of the files."
            )
    return Names(lines, file, colors, palette)


def read_lines(spec: str, file: Path, called: str | None = None) -> list[str]:
    """Return the lines of a text file of the data folder. Raises DataError if it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        name = below(spec, called or file.name)
        raise DataError(f"'{name}' is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error


def _first(root: Path, places: Sequence[str], file: str) -> Path | None:
    return next((root / place / file for place in places if (root / place / file).is_file()), None)


def _lines_of(spec: str, root: Path, path: Path) -> tuple[str, list[str]]:
    """Return the file's name for messages, and its lines."""
    called = path.relative_to(root).as_posix()
    return below(spec, called), read_lines(spec, path, called)


def _plain(name: str) -> str:
    return "background" if name == "_background_" else name


def _read_lines_file(spec: str, root: Path, path: Path) -> tuple[str, ...]:
    called, lines = _lines_of(spec, root, path)
    names = [_plain(line.strip()) for line in lines]
    while names and not names[-1]:
        names.pop()
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(f"{called}, line {number}: no name. Line i names index i - 1: name it, or 'void'.")
        if name in names[: number - 1] and not is_void(name):
            raise DataError(f"{called}, line {number}: class '{name}' stands there twice. Rename one.")
    if names[:1] == ["__ignore__"]:
        names = names[1:]
    num_classes = sum(not is_void(name) for name in names)
    if num_classes > VOID or len(names) > VOID + 1:
        raise DataError(f"{called} names {len(names)} classes; masks can hold {VOID} and void. Remove some.")
    return tuple(names)


def _holds_names(spec: str, root: Path, path: Path) -> bool:
    """Whether a file looks like a list of classes: 2 to 256 lines, none of which names an image."""
    lines = [line.strip() for line in _lines_of(spec, root, path)[1] if line.strip()]
    return 1 < len(lines) <= VOID + 1 and not any(line.lower().endswith(IMAGE_SUFFIXES) for line in lines)


def _read_palette(spec: str, root: Path, path: Path) -> tuple[tuple[Color, str], ...]:
    called, lines = _lines_of(spec, root, path)
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = re.split(r"[,\s]+", line.strip(), maxsplit=3)
        if len(cells) < 4 or not all(_is_byte(cell) for cell in cells[:3]):
            raise DataError(
                f"{called}, line {number}: '{line.strip()}' is not 'R G B name' with numbers from 0 to 255. "
                "Fix the line."
            )
        rows.append((number, (int(cells[0]), int(cells[1]), int(cells[2])), cells[3].strip()))
    return _checked(called, rows)


def _read_labelmap(spec: str, root: Path, path: Path) -> tuple[tuple[str, ...], tuple[tuple[Color, str], ...]]:
    """Return the names in their order, and their colours, empty if no line has one."""
    called, lines = _lines_of(spec, root, path)
    names = []
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, rest = (part.strip() for part in line.partition(":"))
        cells = [cell.strip() for cell in rest.split(":")[0].split(",")]
        if not name or not (cells == [""] or (len(cells) == 3 and all(_is_byte(cell) for cell in cells))):
            raise DataError(
                f"{called}, line {number}: '{line.strip()}' is not 'name:R,G,B::' with numbers from 0 to 255. "
                "Fix the line."
            )
        names.append(_plain(name))
        if cells != [""]:
            rows.append((number, (int(cells[0]), int(cells[1]), int(cells[2])), _plain(name)))
    if len(set(names)) < len(names):
        raise DataError(f"{called} names a class twice ({quoted(names)}). Rename one.")
    if rows and len(rows) < len(names):
        raise DataError(f"{called} gives {len(rows)} of {len(names)} names a colour. Give all of them one, or none.")
    return tuple(names), _checked(called, rows)


def _read_values(spec: str, root: Path, places: Sequence[str] | dict[str, None]) -> tuple[tuple[int, str], ...]:
    """Return the values and names of every _classes.csv. All must agree.

    Tables of that name with another head are not about masks and are skipped.
    """
    found: dict[str, tuple[tuple[int, str], ...]] = {}
    for place in places:
        path = root / place / VALUE_FILE
        if not path.is_file():
            continue
        called, lines = _lines_of(spec, root, path)
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, skipinitialspace=True) if row]
        if not rows or [cell.lower() for cell in rows[0][:2]] != ["pixel value", "class"]:
            continue
        wrong = [row for row in rows[1:] if len(row) < 2 or not _is_byte(row[0]) or not row[1]]
        if wrong:
            raise DataError(f"{called}: '{', '.join(wrong[0])}' is not 'Pixel Value, Class'. Fix the line.")
        found[called] = tuple(sorted((int(row[0]), _plain(row[1])) for row in rows[1:]))
    if len(set(found.values())) > 1:
        raise DataError(f"{quoted(list(found))} name different classes. Make them agree.")
    values = next(iter(found.values()), ())
    if len({value for value, _ in values}) < len(values) or len({name for _, name in values}) < len(values):
        raise DataError(f"{next(iter(found))} names a value or a class twice. Remove one of the lines.")
    return values


def _checked(called: str, rows: Sequence[tuple[int, Color, str]]) -> tuple[tuple[Color, str], ...]:
    known: set[Color] = set()
    for number, color, _ in rows:
        if color in known:
            raise DataError(f"{called}, line {number}: colour {color} stands there twice. Remove one.")
        known.add(color)
    if len({name for _, _, name in rows}) > VOID:
        raise DataError(f"{called} names more than {VOID} classes. Remove some.")
    return tuple((color, name) for _, color, name in rows)


def _is_byte(cell: str) -> bool:
    return cell.isascii() and cell.isdecimal() and int(cell) <= 255
