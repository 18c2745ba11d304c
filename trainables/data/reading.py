"""Read one image file as one (H, W, 3) array."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from trainables.data import endings
from trainables.data.plain_files import check_plain
from trainables.data.tiff import tiff_depth
from visionsweep.core.errors import DataError

IMAGE_SUFFIXES = endings.IMAGE_SUFFIXES

# Pillow refuses images above 179 megapixels, which is reported. It also warns above 89, and phones take 108.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(path: Path, name: str | None = None) -> npt.NDArray[np.uint8]:
    """Read (H, W, 3) uint8 RGB as a viewer shows it: EXIF orientation applied, the first frame of an animation.

    Raises DataError, which calls the file `name` (default: its path), if it cannot be decoded.
    """
    try:
        with open_image(path) as image:
            ImageOps.exif_transpose(image, in_place=True)  # a copy of a camera's photo takes 200 MB
            return to_rgb(image)
    except MemoryError:
        raise  # the machine's trouble, not the file's
    except Exception as error:  # a broken file breaks decoders in every way: OSError, SyntaxError, struct.error, ...
        why = _why_not_rgb(path) if isinstance(error, UnidentifiedImageError) else ""
        raise DataError(f"image '{name or path}' cannot be read: {why or why_unreadable(error)}") from error


def _why_not_rgb(path: Path) -> str:
    """Say that a TIFF has more channels than Pillow knows, '' if it is none."""
    try:
        _, channels, bits = tiff_depth(path)
    except (DataError, OSError, SyntaxError, ValueError):
        return ""
    return f"it has {channels} channels of {bits} bits, and RGB is read; --channels auto reads all of them"


def open_image(file: IO[bytes] | Path) -> Image.Image:
    """Open an image by its contents, in the formats of `endings.FORMATS` only.

    Without that limit Pillow would pass PostScript called x.png to Ghostscript. Raises DataError for an ending that is
    not read, and OSError for a file that is not plain or no image.
    """
    suffix = Path(file if isinstance(file, Path) else str(getattr(file, "name", ""))).suffix.lower()
    if suffix in endings.NOT_READ:  # raw formats are TIFF files inside, whose first picture is a thumbnail
        raise DataError(f"{suffix} is not read. Convert it to JPEG or PNG")
    if isinstance(file, Path):
        check_plain(file)
    # Targa files have no signature, so only the ending identifies them.
    formats = [name for name in endings.SAFE_FORMATS if name != "TGA" or suffix == ".tga"]
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError:
        if endings.is_heic(_head(file)):  # perhaps called x.jpg: telephones do
            return _open_heic(file)
        raise


def _open_heic(file: IO[bytes] | Path) -> Image.Image:
    if not endings.READS_HEIC:
        raise DataError(f"HEIC {endings.HEIC_NEEDS}")
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return Image.open(file, formats=["HEIF"])


def _head(file: IO[bytes] | Path) -> bytes:
    if isinstance(file, Path):
        with open(file, "rb") as opened:
            return opened.read(16)
    file.seek(0)
    return file.read(16)


def is_turned(file: IO[bytes] | Path) -> bool:
    """Whether the EXIF orientation of an image file turns or mirrors it. Only the head is read."""
    try:
        with open_image(file) as image:
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
            return bool(exif.get(ExifTags.Base.Orientation, 1) != 1)
    except Exception:  # decoding will say what is wrong with it
        return False


def to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the pixels of a decoded image of any mode, (H, W, 3) uint8."""
    if image.mode.startswith("I;16"):
        # PIL's own conversion clips at 255 and turns a 16-bit scan white.
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise DataError(f"its pixels are 32-bit (PIL mode '{image.mode}') and have no known range; save it as 8-bit")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, PIL warns and guesses
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # (H, W, 3)


def why_unreadable(error: Exception) -> str:
    """Return the reason for a message about a file that broke its decoder."""
    if isinstance(error, UnidentifiedImageError):
        # PIL and the system put the whole path into some messages. The name is enough, and right on every machine.
        return "not an image"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.strip().rstrip(".") or type(error).__name__


@dataclass(frozen=True)
class FileReader:
    """Reads `root / names[index]`. Shares its names with the Dataset, so that both pickle as one."""

    root: Path
    names: tuple[str, ...]

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        name = self.names[index]
        return read_image(self.root / name, name)
