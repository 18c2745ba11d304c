"""Which classes a folder's masks have, and what their pixels mean: classes.txt, a palette file, or the masks alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from search_spaces.errors import DataError
from trainables.data.dataset import VOID
from trainables.data.masks import Coding, Color, raw_mask, without_color

CLASSES_FILE = "classes.txt"
PALETTE_FILES = ("palette.txt", "label_colors.txt")  # the second is CamVid's own
VOID_NAMES = ("void", "ignore", "unlabeled", "unlabelled")
BINARY_CLASSES = ("background", "foreground")
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CHUNK = 64  # masks decoded ahead


def find_coding(spec: str, root: Path, names: Sequence[str], default: tuple[str, ...] | None) -> Coding:
    """The coding of the masks `names` below `root`, whose own files come before `default`, the format's classes.

    The masks themselves are decoded only where they alone can tell: how many classes there are where nobody named
    them, and whether two classes are coded as 0 and 255.

    Raises DataError where a file is wrong, or two of them disagree.
    """
    lines = _read_classes(spec, root / CLASSES_FILE) if (root / CLASSES_FILE).is_file() else None
    for palette in PALETTE_FILES:
        if (root / palette).is_file():
            return _palette_coding(spec, palette, _read_palette(spec, root / palette), lines)
    lines = lines or default
    if lines is None or len(lines) == len(_classes(lines)) == 2:
        values = _values(root, names, only_binary=lines is not None)
        if values == {255} or values == {0, 255}:
            # 1 is what the pixels of a 1-bit file hold.
            return Coding(lines or BINARY_CLASSES, ((0, 0), (1, 1), (255, 1)))
        highest = max(values - {VOID}, default=0)
        lines = lines or tuple(f"class {index}" for index in range(highest + 1))
    return index_coding(lines)


def index_coding(lines: Sequence[str]) -> Coding:
    """Line i of classes.txt names index i. A name like 'void' is no class: its index becomes VOID."""
    values = tuple(enumerate(_indices(lines)))
    return Coding(_classes(lines), values if len(values) > VOID else (*values, (VOID, VOID)))


def is_void(name: str) -> bool:
    return name.lower() in VOID_NAMES


def _classes(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in lines if not is_void(name))


def _indices(lines: Sequence[str]) -> tuple[int, ...]:
    """For each name its class index, or VOID."""
    return tuple(VOID if is_void(name) else _classes(lines).index(name) for name in lines)


def _palette_coding(
    spec: str, palette: str, colors: Sequence[tuple[Color, str]], lines: tuple[str, ...] | None
) -> Coding:
    """The names of the palette's lines are the classes in their order, unless classes.txt has others for them."""
    own = tuple(dict.fromkeys(name for _, name in colors))  # several colours may share a class
    if lines is None:
        named = own
    elif len(lines) == len(own):
        named = lines
    elif len(_classes(lines)) == len(_classes(own)):  # one of the two files leaves void out
        rest = iter(_classes(lines))
        named = tuple(name if is_void(name) else next(rest) for name in own)
    else:
        raise DataError(
            f"{spec}: {palette} has {len(own)} names, and {CLASSES_FILE} {len(lines)}. "
            "Make them agree line by line, or remove one of the files."
        )
    index_of = dict(zip(own, _indices(named), strict=True))
    coding = index_coding(named)
    return replace(coding, colors=tuple((color, index_of[name]) for color, name in colors), palette=palette)


def _read_classes(spec: str, file: Path) -> tuple[str, ...]:
    names = [line.strip() for line in read_lines(spec, file)]
    while names and not names[-1]:
        names.pop()
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(
                f"{spec}/{file.name}, line {number}: no name. Line i names index i - 1: name it, or 'void'."
            )
        if name in names[: number - 1] and not is_void(name):
            raise DataError(f"{spec}/{file.name}, line {number}: class '{name}' stands there twice. Rename one.")
    if len(_classes(names)) > VOID or len(names) > VOID + 1:
        raise DataError(f"{spec}/{file.name} names {len(names)} classes; masks can hold {VOID} and void. Remove some.")
    return tuple(names)


def _read_palette(spec: str, file: Path) -> list[tuple[Color, str]]:
    colors: list[tuple[Color, str]] = []
    for number, line in enumerate(read_lines(spec, file), 1):
        if not line.strip():
            continue
        cells = re.split(r"[,\s]+", line.strip(), maxsplit=3)
        if len(cells) < 4 or not all(cell.isdecimal() and int(cell) <= 255 for cell in cells[:3]):
            raise DataError(
                f"{spec}/{file.name}, line {number}: '{line.strip()}' is not 'R G B name' with numbers from 0 to 255. "
                "Fix the line."
            )
        color = (int(cells[0]), int(cells[1]), int(cells[2]))
        if color in [known for known, _ in colors]:
            raise DataError(f"{spec}/{file.name}, line {number}: colour {color} stands there twice. Remove one.")
        colors.append((color, cells[3].strip()))
    if len({name for _, name in colors}) > VOID:
        raise DataError(f"{spec}/{file.name} names more than {VOID} classes. Remove some.")
    return colors


def read_lines(spec: str, file: Path) -> list[str]:
    """The lines of a text file of the data folder; a DataError where it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"'{spec}/{file.name}' is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error


def _values(root: Path, names: Sequence[str], only_binary: bool) -> set[int]:
    """All values that the masks hold; with `only_binary` only until one of them is neither 0 nor 255.

    Masks that cannot be read are left to the decoding, which names them; if none can be, the first says why.
    """
    values: set[int] = set()
    first_error: DataError | None = None
    for got in _each_values(root, names):
        if isinstance(got, DataError):
            first_error = first_error or got
            continue
        values |= got
        if only_binary and values - {0, 255}:
            return values
    if not values and first_error is not None:
        raise first_error
    return values


def _each_values(root: Path, names: Sequence[str]) -> Iterator[set[int] | DataError]:
    def decode(name: str) -> set[int] | DataError:
        try:
            raw = without_color(raw_mask(root / name, name, as_colors=False), name)
            found = set(np.unique(raw).tolist())
            if raw.dtype == bool:
                return {255 if value else 0 for value in found}
            if max(found) > 255:
                raise DataError(f"mask '{name}' has the value {max(found)}; class indices go up to {VOID - 1}")
            return found
        except DataError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(names), CHUNK):
            yield from pool.map(decode, names[start : start + CHUNK])
