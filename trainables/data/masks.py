"""Read one mask file as one (H, W) array of class indices and VOID."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from trainables.data.dataset import VOID
from trainables.data.reading import open_image, why_unreadable
from trainables.data.scan import bytes_digest, content_digests
from visionsweep.core.errors import DataError

# No JPEG: its compression invents indices and colours that nobody drew.
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm")

MOST_COLORS = 64  # colours of a mask
SAMPLED = 100_000  # among so many pixels

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Coding:
    """The meaning of the pixels of a data set's masks.

    classes  C names
    values   (value in the file, class index or VOID)
    colors   (colour in the file, class index or VOID), empty if there is no palette file
    palette  how messages call the palette file
    """

    classes: tuple[str, ...]
    values: tuple[tuple[int, int], ...]
    colors: tuple[tuple[Color, int], ...] = ()
    palette: str = ""

    @property
    def greys_are_colors(self) -> bool:
        """Whether a grey mask holds colours, not indices: a palette of nothing but greys can mean nothing else."""
        return bool(self.colors) and all(red == green == blue for (red, green, blue), _ in self.colors)


@dataclass(frozen=True)
class MaskFiles:
    """Reads `root / names[index]`."""

    root: Path
    names: tuple[str, ...]
    coding: Coding

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        return read_mask(self.root / self.names[index], self.names[index], self.coding)

    def name(self, index: int) -> str:
        return self.names[index]


def read_mask(path: Path, name: str, coding: Coding) -> npt.NDArray[np.uint8]:
    """Read a mask as (H, W) uint8 class indices and VOID.

    `name` is how messages call the file. Raises DataError if it cannot be decoded, or holds a value or a colour that
    `coding` does not know.
    """
    raw = raw_mask(path, name, bool(coding.colors))
    if raw.ndim == 2 and coding.greys_are_colors:
        grey = raw * np.uint8(255) if raw.dtype == bool else _as_bytes(raw)
        raw = np.repeat(grey[:, :, None], 3, axis=2)
    if coding.colors and raw.ndim == 3:
        return _by_color(raw, name, coding)
    return _by_value(without_color(raw, name), name, coding)


def raw_mask(path: Path, name: str, as_colors: bool) -> np.ndarray:
    """Return what the file stores: (H, W) indices, bool for 1-bit files, or (H, W, 3) uint8 colours.

    A palette image gives its indices, unless `as_colors`. The EXIF orientation is applied, as to the image. Raises
    DataError if the file cannot be decoded.
    """
    try:
        with open_image(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode in ("LA", "PA") and not (image.mode == "PA" and as_colors):
                image = image.getchannel(0)  # the alpha channel means nothing in a mask
            if image.mode == "F":
                raise DataError("its pixels are fractions (PIL mode 'F'); save class indices")
            if file.format == "GIF" and image.mode == "P" and not as_colors:
                return _greys(image)
            if image.mode in ("1", "L", "I") or image.mode.startswith("I;16") or (image.mode == "P" and not as_colors):
                return np.asarray(image)  # (H, W)
            # By way of RGBA: of a palette with transparency PIL warns otherwise.
            return np.asarray((image.convert("RGBA") if image.mode == "P" else image).convert("RGB"))  # (H, W, 3)
    except MemoryError:
        raise  # the machine's trouble, not the file's
    except Exception as error:  # as read_image: broken files break decoders in every way
        raise DataError(f"mask '{name}' cannot be read: {why_unreadable(error)}") from error


def looks_like_a_mask(path: Path) -> bool:
    """Whether an image can be one: class numbers, or few colours. A photo has many."""
    try:
        raw = raw_mask(path, path.name, as_colors=False)
    except DataError:
        return False
    if raw.ndim == 2:
        return True
    pixels = raw.reshape(-1, 3)
    return len(np.unique(_code(pixels[:: len(pixels) // SAMPLED + 1]))) <= MOST_COLORS


def palette_of(path: Path) -> list[tuple[int, ...]]:
    """Return the colours of a palette image by their index.

    The list is empty for other files, and for a GIF, which is read by its greys.
    """
    with open_image(path) as image:
        palette = image.getpalette("RGB") if image.mode == "P" and image.format != "GIF" else None
    return list(zip(*[iter(palette or [])] * 3, strict=True))


def _greys(image: Image.Image) -> np.ndarray:
    """Return the greys of a GIF that shows nothing but greys, (H, W), or else its indices.

    A GIF stores greys through a palette too, and programs number that differently.
    """
    indices = np.asarray(image)  # (H, W)
    colors = np.zeros((256, 3), np.uint8)
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colors[: len(palette)] = palette
    used = colors[np.unique(indices)]
    return colors[:, 0][indices] if (used == used[:, :1]).all() else indices


def without_color(raw: np.ndarray, name: str) -> np.ndarray:
    """Return (H, W) indices, also of a colour image whose three channels are equal.

    Raises DataError for real colours.
    """
    if raw.ndim == 2:
        return raw
    colored = (raw[:, :, 0] != raw[:, :, 1]) | (raw[:, :, 1] != raw[:, :, 2])  # (H, W)
    if colored.any():
        color = tuple(raw[colored][0].tolist())
        raise DataError(
            f"mask '{name}' has the colour {color}, and there is no palette.txt to say which class that is "
            "(a line 'R G B name' for each class)"
        )
    return raw[:, :, 0]


def check_size(image_shape: tuple[int, ...], mask_shape: tuple[int, ...], name: str, mask_name: str) -> None:
    """Raise DataError unless the mask has the image's size, or that shape at another scale (to a pixel of rounding)."""
    (height, width), (mask_height, mask_width) = image_shape[:2], mask_shape[:2]
    off = abs(height * mask_width - width * mask_height)
    if (height, width) != (mask_height, mask_width) and off > max(height, width, mask_height, mask_width):
        raise DataError(
            f"mask '{mask_name}' is {mask_width} x {mask_height} px, and its image '{name}' {width} x {height} px; "
            "they must have the same size, or the same shape at another scale"
        )


def mask_digests(paths: Sequence[Path], coding: Coding) -> tuple[str, ...]:
    """Return a hash of each mask's file and of what its pixels mean, as the same file can mean something else."""
    meaning = bytes_digest(repr(coding).encode("utf-8", "surrogateescape"))
    return tuple(f"{digest} {meaning}" for digest in content_digests(paths))


def _by_value(raw: np.ndarray, name: str, coding: Coding) -> npt.NDArray[np.uint8]:
    class_of = np.full(256, -1, np.int16)
    for value, index in coding.values:
        class_of[value] = index
    wrong = (raw < 0) | (raw > 255)  # of 16-bit and 32-bit files
    indices = class_of[_as_bytes(raw)]  # (H, W)
    wrong |= indices < 0
    if wrong.any():
        worst = int(raw[wrong].max())
        raise DataError(
            f"mask '{name}' has the value {worst}, and there are {len(coding.classes)} classes "
            f"({_known_values(coding)}){_if_instances(worst) or _if_ranked(raw, coding)}"
        )
    return indices.astype(np.uint8)


def check_bytes(raw: np.ndarray, name: str) -> None:
    """Raise DataError if an (H, W) mask holds values that are no class numbers, as 16-bit and 32-bit files may."""
    low = int(raw.min())
    high = int(raw.max())
    if low < 0 or high > 255:
        worst = high if high > 255 else low
        raise DataError(
            f"mask '{name}' has the value {worst}, and class numbers go from 0 to 254{_if_instances(worst)}"
        )


def _known_values(coding: Coding) -> str:
    """Return 'values 0 to 2, 255 for void', or a list of all values if they have gaps."""
    known = sorted(value for value, index in coding.values if (value, index) != (VOID, VOID))
    has_gaps = len(known) <= known[-1] - known[0]
    shown = ", ".join(map(str, known)) if has_gaps else f"{known[0]} to {known[-1]}"
    return f"values {shown}" + (f", {VOID} for void" if (VOID, VOID) in coding.values else "")


def _if_ranked(raw: np.ndarray, coding: Coding) -> str:
    """Return a hint for names that may be meant for the values in their order: 0, 85, 170."""
    if len(np.unique(raw)) > len(coding.classes):
        return ""
    return ": with --mask-values classes the names stand for the values that the masks hold, in their order"


def _if_instances(value: int) -> str:
    return ": a mask needs the class of each pixel, not instance ids" if value > 255 else ""


def _by_color(raw: np.ndarray, name: str, coding: Coding) -> npt.NDArray[np.uint8]:
    table = sorted((_code(np.array(color)).item(), index) for color, index in coding.colors)
    known = np.array([code for code, _ in table])
    classes = np.array([index for _, index in table], np.uint8)
    codes = _code(raw)  # (H, W)
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    wrong = known[place] != codes
    if wrong.any():
        raise DataError(
            f"mask '{name}' has the colour {tuple(raw[wrong][0].tolist())}, which is not in {coding.palette}"
        )
    return np.asarray(classes[place])


def _code(colors: np.ndarray) -> npt.NDArray[np.int32]:
    """Return one number for each of (..., 3) colours."""
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _as_bytes(raw: np.ndarray) -> npt.NDArray[np.uint8]:
    return raw.astype(np.uint8)  # bool becomes 0 and 1. The caller refuses what does not fit
