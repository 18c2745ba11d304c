"""Images with the channels and the depth that their files have (`--channels`), and what is lost without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageOps

from trainables.config.bands import DEPTHS
from trainables.data.plain_files import check_plain
from trainables.data.read_as import AUTO, MOST_CHANNELS
from trainables.data.reading import FileReader, open_image, why_unreadable
from trainables.data.scan import Scan
from trainables.data.tiff import read_tiff, tiff_depth
from visionsweep.core.cores import num_cores
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted

TIFF = (".tif", ".tiff")
DEEP_PNG = 16  # bits: Pillow would shrink its colours to 8
TRIED = 16  # files, until one can be read, to find what all have
LOOKED_AT = 1000  # headers, spread evenly: of 20,000 small files all of them took 13% of what reading the data takes

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Kind:
    """What all images of a data set have: so many channels, uint8, uint16 or float32."""

    channels: int
    dtype: str

    def __str__(self) -> str:
        return f"{counted(self.channels, 'channel')} of {DEPTHS[self.dtype]} bits"


@dataclass(frozen=True)
class BandReader:
    """Reads `root / names[index]` with all of its channels, (H, W, C)."""

    root: Path
    names: tuple[str, ...]
    kind: Kind

    def __call__(self, index: int) -> Pixels:
        name = self.names[index]
        return read_bands(self.root / name, self.kind, name)

    @property
    def as_rgb(self) -> FileReader:
        """Reads the same files as photos."""
        return FileReader(self.root, self.names)


def read_bands(path: Path, kind: Kind | None = None, name: str | None = None) -> Pixels:
    """Read (H, W, C) of uint8, uint16 or float32, all that the file has.

    kind: what it must be, None for anything. Raises DataError, which calls the file `name`, if it is not, or cannot be
    decoded.
    """
    called = name or path
    try:
        image = _read(path)
    except MemoryError:
        raise  # the machine's trouble, not the file's
    except Exception as error:  # as for `read_image`
        raise DataError(f"image '{called}' cannot be read: {why_unreadable(error)}") from error
    found = Kind(image.shape[2], str(image.dtype))
    if kind is not None and found != kind:
        raise DataError(f"image '{called}' has {found}, and {kind} are trained on; save all images alike")
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise DataError(f"image '{called}' has values that are not finite; fill them in")
    return image


def _read(path: Path) -> Pixels:
    check_plain(path)
    with open(path, "rb") as file:
        head = file.read(26)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        try:
            image = read_tiff(path)
        except DataError as error:
            image = _shallow(path, error)
    elif _png_bits(head) == DEEP_PNG:
        image = _deep_png(path, is_grey_and_alpha=head[25] == 4)
    else:
        image = _shallow(path)
    image = image if image.ndim == 3 else image[:, :, None]
    if not 1 <= image.shape[2] <= MOST_CHANNELS:
        raise DataError(f"it has {image.shape[2]} channels, and 1 to {MOST_CHANNELS} are read")
    return image if str(image.dtype) in DEPTHS else image.astype(np.float32)  # signed values


def _shallow(path: Path, why_not: DataError | None = None) -> Pixels:
    """Read a file of up to four channels of 8 bits. Raises `why_not` for a deeper one."""
    with open_image(path) as opened:
        if why_not is not None and opened.mode not in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr"):
            raise why_not
        ImageOps.exif_transpose(opened, in_place=True)
        has_alpha = "transparency" in opened.info or opened.mode == "PA"
        is_plain = opened.mode in ("L", "LA", "RGB", "RGBA")
        return np.array(opened if is_plain else opened.convert("RGBA" if has_alpha else "RGB"))


def _png_bits(head: bytes) -> int:
    """The bits of a PNG's channels by the first 26 bytes of the file, 0 for no PNG."""
    return head[24] if head[:4] == b"\x89PNG" and len(head) == 26 else 0


def _deep_png(path: Path, *, is_grey_and_alpha: bool) -> Pixels:
    # From memory: OpenCV opens no path of every encoding.
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError("not an image")
    if image.ndim == 2:
        return np.asarray(image)
    order = [0, 3] if is_grey_and_alpha else [2, 1, 0, 3][: image.shape[2]]  # OpenCV's is blue, green, red
    return np.ascontiguousarray(image[:, :, order])


def with_channels(scan: Scan, spec: str, channels: str | None, *, tells: bool = True) -> Scan:
    """Return the scan with a reader of all channels where `--channels` asks for it.

    Three channels of 8 bits are read as always. Without `channels`, notes say what is lost (unless not `tells`). Raises
    DataError where the files have another number of channels.
    """
    reader = scan.reader
    if channels is None:
        lost = _lost(reader) if tells and isinstance(reader, FileReader) else ()
        return replace(scan, notes=(*scan.notes, *lost))
    if not isinstance(reader, FileReader):
        raise DataError(f"--channels is for files of your own, and '{spec}' has none. Leave it out.")
    kind = _kind_of(reader, spec)
    if channels != AUTO and kind.channels != int(channels):
        raise DataError(
            f"{spec}: '{reader.names[0]}' has {kind}, and --channels is {channels}. "
            f"Pass --channels {kind.channels}, or auto."
        )
    if kind == Kind(3, "uint8"):
        return scan
    note = f"Images are trained on as they are: {kind}. Colour augmentations and policies are left out."
    digests = tuple(f"{digest} {kind.channels} {kind.dtype}" for digest in scan.digests)
    return replace(scan, reader=BandReader(reader.root, reader.names, kind), digests=digests, notes=(*scan.notes, note))


def _kind_of(reader: FileReader, spec: str) -> Kind:
    problem = None
    for name in reader.names[:TRIED]:
        try:
            image = read_bands(reader.root / name, name=name)
        except (DataError, OSError) as error:
            problem = problem or error
            continue
        return Kind(image.shape[2], str(image.dtype))
    raise DataError(f"{spec}: {problem or 'there is no image'}. Replace or remove it.")


def _lost(reader: FileReader) -> Iterator[str]:
    """Yield a sentence for each thing that files have and training as RGB of 8 bits loses."""
    files = [name for name in reader.names if name.lower().endswith((*TIFF, ".png"))]
    num = min(len(files), LOOKED_AT)
    looked_at = [files[place * len(files) // num] for place in range(num)]
    found = Counter[tuple[int, int, int]](one for one in _depths(reader.root, looked_at) if one is not None)
    of = "" if num == len(files) else f"Of {num:,} files looked at, among {len(files):,} taken to be like them: "
    advice = "--channels auto trains on them as they are."
    deep = sum(number for (_, _, bits), number in found.items() if bits == DEEP_PNG)
    if deep:
        yield f"{of}{counted(deep, 'image')} of 16 bits: shrunk to 8. {advice}"
    many = sum(number for (pages, channels, _), number in found.items() if pages == 1 and channels > 3)
    if many:
        most = max(channels for pages, channels, _ in found if pages == 1)
        yield f"{of}{counted(many, 'image')} of up to {most} channels: the first three are taken. {advice}"
    paged = sum(number for (pages, _, _), number in found.items() if pages > 1)
    if paged:
        yield f"{of}{counted(paged, 'image')} of several pages: the first is taken. {advice}"


def _depths(root: Path, names: Sequence[str]) -> Sequence[tuple[int, int, int] | None]:
    """(pages, channels, bits) of files by their headers, None for what cannot be read."""

    def look(name: str) -> tuple[int, int, int] | None:
        try:
            path = root / name
            if not name.lower().endswith(TIFF):
                with open(path, "rb") as file:
                    return 1, 1, _png_bits(file.read(26))
            return tiff_depth(path)
        except Exception:  # decoding will say what is wrong with it
            return None

    with ThreadPoolExecutor(num_cores()) as pool:
        return list(pool.map(look, names))


def shown(image: Pixels) -> npt.NDArray[np.uint8]:
    """Return an image (H, W, C) as people see it, (H, W, 3) uint8: its first three channels, or its only one.

    Deeper ones are stretched from their darkest to their brightest value.
    """
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return image
    some = image[:, :, :3] if image.shape[2] >= 3 else np.repeat(image[:, :, :1], 3, axis=2)
    if image.dtype == np.uint8:
        return np.ascontiguousarray(some, np.uint8)
    low, high = (float(value) for value in np.percentile(some, (1, 99)))
    stretched = (some.astype(np.float32) - low) / max(high - low, 1e-12) * 255
    return np.asarray(stretched.round().clip(0, 255), np.uint8)
