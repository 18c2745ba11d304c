"""What somebody drew on an image, and the mask (H, W) that it makes."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import UnidentifiedImageError

from trainables.data.reading import is_turned, open_image, read_image, why_unreadable
from trainables.data.tiff import tiff_size
from trainables.data.tools.fill import fill_rings
from trainables.data.tools.runs import bits_of_brush, bits_of_counts, counts_of_text
from visionsweep.core.errors import DataError
from visionsweep.core.files import parse_json, short

Patch = tuple[int, int, npt.NDArray[np.bool_]]  # top, left, and the pixels from there on

BOX = "box"  # says that a class is there and about where, but not which pixels it has
MOST_PIXELS = 2**28  # of a mask: more than any camera's
LARGEST = 1e15
FARTHEST = 1e6  # of a point from the image's corner


@dataclass(frozen=True)
class Shape:
    """One annotation: its class's name and its area.

    kind  a key of DRAWN, or BOX
    data  plain values, as that kind's function takes them; a box's ring where its tool draws areas with boxes
    """

    label: str
    kind: str
    data: Any = None


def polygon(label: str, rings: Sequence[Any], kind: str = "rings") -> Shape:
    """Return an area of polygons, each x, y, x, y, ... Raises DataError for what is no polygon.

    kind: rings in pixels, or fractions of the image's width and height.
    """
    for ring in rings:
        if not isinstance(ring, (list, tuple)) or not _are_numbers(ring):
            raise DataError(f"a polygon must be a list of numbers, got {short(ring)}")
        if ring and max(max(ring), -min(ring)) > FARTHEST:
            raise DataError(f"a polygon has a point at {max(ring, key=abs):g}, and no image is so large")
        if len(ring) % 2:
            raise DataError(f"a polygon has {len(ring)} numbers, so an x has no y")
        if len(ring) < 6:
            raise DataError(f"a polygon has {len(ring) // 2} points, and an area has at least 3")
    if not rings:
        raise DataError("it has no polygon")
    return Shape(label, kind, [list(ring) for ring in rings])


def box(label: str, ring: Sequence[float]) -> Shape:
    """Return a box that a tool draws areas with. Raises DataError, as `polygon`."""
    return Shape(label, BOX, polygon(label, [ring]).data[0])


def is_number(value: object) -> bool:
    """Whether a value is a number that arithmetic stands: neither NaN nor infinite nor without end."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether all are numbers, as `is_number` says of one. Of the millions of a large file, at a tenth of the time."""
    return set(map(type, values)) <= {int, float} and (not values or -LARGEST < sum(values) < LARGEST)


def check_class(name: str) -> None:
    """Raise DataError for a class's name that cannot stand in a line of UTF-8 text."""
    if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise DataError(f"the class {ascii(name)[:60]} has a character in its name that no line of text can hold")


def is_size(value: object) -> bool:
    """Whether a value can be a height or width in pixels."""
    return is_number(value) and value == int(value) and 0 < value < MOST_PIXELS  # type: ignore[operator, call-overload]


def _rings(data: Any, height: int, width: int) -> Patch:
    points = np.concatenate([np.asarray(ring, np.float64).reshape(-1, 2) for ring in data])
    if (points.max(axis=0) <= 0).any() or (points.min(axis=0) >= (width, height)).any():
        x, y = points[0]
        raise DataError(f"it lies outside of the image ({x:g}, {y:g}), which has {width} x {height} px")
    return fill_rings(data, height, width)


def _fractions(data: Any, height: int, width: int) -> Patch:
    return _rings([(np.reshape(ring, (-1, 2)) * (width, height)).ravel() for ring in data], height, width)


def _coco(data: Any, height: int, width: int) -> Patch:
    counts, own_height, own_width = data
    _same_size(own_height, own_width, height, width)
    counts = counts_of_text(counts) if isinstance(counts, str) else counts
    return 0, 0, bits_of_counts(counts, height, width, by_column=True)


def _cvat(data: Any, height: int, width: int) -> Patch:
    counts, top, left, own_height, own_width = data
    _inside(top, left, own_height, own_width, height, width)
    return top, left, bits_of_counts(counts, own_height, own_width, by_column=False)


def _brush(data: Any, height: int, width: int) -> Patch:
    packed, own_height, own_width = data
    _same_size(own_height, own_width, height, width)
    return 0, 0, bits_of_brush(packed, height, width)


def _png(data: Any, height: int, width: int) -> Patch:
    content, top, left = data
    try:
        with open_image(io.BytesIO(base64.b64decode(content, validate=True))) as image:
            _inside(top, left, image.height, image.width, height, width)
            bits = np.asarray(image.convert("L")) > 0
    except (DataError, MemoryError):
        raise
    except Exception as error:  # as read_image: broken files break decoders in every way
        raise DataError(f"its mask cannot be read: {why_unreadable(error)}") from None
    return top, left, bits


# kind -> how its data becomes pixels
DRAWN: dict[str, Callable[[Any, int, int], Patch]] = {
    "rings": _rings,
    "fractions": _fractions,
    "coco": _coco,
    "cvat": _cvat,
    "brush": _brush,
    "png": _png,
}


def _same_size(own_height: int, own_width: int, height: int, width: int) -> None:
    if (own_height, own_width) != (height, width):
        raise DataError(f"its RLE is of {own_width} x {own_height} px, and the image has {width} x {height}")


def _inside(top: int, left: int, own_height: int, own_width: int, height: int, width: int) -> None:
    if top < 0 or left < 0 or top + own_height > height or left + own_width > width:
        raise DataError(
            f"its mask of {own_width} x {own_height} px at ({left}, {top}) leaves the image of {width} x {height}"
        )


def packed(shapes: Sequence[Shape], index_of: dict[str, int]) -> bytes:
    """Return an image's areas in their order, from the lowest to the one on top, as a few bytes."""
    rows = [[index_of[shape.label], shape.kind, shape.data, shape.label] for shape in shapes]
    return zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), level=1)


@dataclass(frozen=True, eq=False)
class DrawnMasks:
    """Draws the masks of N images.

    names   the images, relative to the root
    files   what messages call the file with an image's annotations
    sizes   (height, width) as the tool says, (0, 0) where it does not
    shapes  of `packed`
    ground  the class of pixels that nothing was drawn on
    """

    root: Path
    names: tuple[str, ...]
    files: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    shapes: tuple[bytes, ...]
    ground: int

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        height, width = self.sizes[index] if any(self.sizes[index]) else self._size_of_image(index)
        if height * width > MOST_PIXELS:
            raise DataError(
                f"mask '{self.name(index)}' of image '{self.names[index]}' has {width} x {height} px: too many"
            )
        mask = np.full((height, width), self.ground, np.uint8)
        rows = parse_json(zlib.decompress(self.shapes[index]).decode())
        for number, (value, kind, data, label) in enumerate(rows, 1):
            try:
                top, left, bits = DRAWN[kind](data, height, width)
            except DataError as error:
                where = f"mask '{self.name(index)}' of image '{self.names[index]}', annotation {number} ('{label}')"
                raise DataError(f"{where}: {error}") from None
            mask[top : top + bits.shape[0], left : left + bits.shape[1]][bits] = value
        return mask

    def name(self, index: int) -> str:
        return self.files[index]

    def _size_of_image(self, index: int) -> tuple[int, int]:
        path = self.root / self.names[index]
        if is_turned(path):
            height, width, _ = read_image(path, self.names[index]).shape
            return height, width
        try:
            with open_image(path) as image:  # its head alone
                return image.height, image.width
        except UnidentifiedImageError:
            return tiff_size(path)  # of more channels than Pillow knows
