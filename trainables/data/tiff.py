"""Read every channel and page of a TIFF file at its own depth.

Pillow and OpenCV read no more than four channels. So a page is given to Pillow's decoders as a grey one: a row of W
pixels of C values is a row of W * C grey pixels. The compressed data stays as it is, only its header is written anew.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from visionsweep.core.errors import DataError

Pixels = npt.NDArray[Any]

# Tags of TIFF 6.0.
KIND, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS = 254, 256, 257, 258, 259, 262
OFFSETS, SAMPLES, STRIP_ROWS, COUNTS, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, EXTRA, FORMAT = 322, 323, 324, 325, 338, 339

REDUCED = 1  # of KIND: a smaller copy of another page
GREY, RGB = 1, 2
ALPHA = (1, 2)  # of EXTRA: transparency
DIFFERENCES = 2  # of PREDICTOR: each value is stored as its difference from the one on the left
LOSSLESS = (1, 5, 8, 32773, 32946, 50000)  # none, LZW, deflate, PackBits, deflate, Zstandard
MOST_PAGES = 64
TYPES = {(1, 8): "u1", (1, 16): "u2", (2, 16): "i2", (3, 32): "f4"}  # (FORMAT, BITS): what Pillow decodes


def read_tiff(path: Path) -> Pixels:
    """Return (H, W, C) of all pages, one after the other. Raises DataError or OSError if it cannot be read."""
    data = path.read_bytes()
    found = [_decoded(header, data) for header in _pages(io.BytesIO(data))]
    if not found:
        raise DataError("it has no page")
    sizes = {page.shape[:2] for page in found}
    if len(sizes) > 1 or len({page.dtype for page in found}) > 1:
        raise DataError(f"its {len(found)} pages differ in size or depth")
    return found[0] if len(found) == 1 else np.concatenate(found, axis=2)


def tiff_depth(path: Path) -> tuple[int, int, int]:
    """Return (pages, channels of all but transparency, bits) by a file's headers. Raises DataError or OSError."""
    headers = _headers(path)
    alphas = sum(kind in ALPHA for header in headers for kind in _many(header, EXTRA))
    channels = sum(int(header.get(SAMPLES, 1)) for header in headers)
    return len(headers), channels - alphas, max(_many(headers[0], BITS, (1,)))


def tiff_size(path: Path) -> tuple[int, int]:
    """Return (height, width) by a file's header. Raises DataError or OSError."""
    first = _headers(path)[0]
    return int(first.get(HEIGHT, 0)), int(first.get(WIDTH, 0))


def _headers(path: Path) -> list[ImageFileDirectory_v2]:
    with open(path, "rb") as file:
        headers = list(_pages(file))
    if not headers:
        raise DataError("it has no page")
    return headers


def _pages(file: IO[bytes]) -> Iterator[ImageFileDirectory_v2]:
    """Yield the header of each page."""
    head = file.read(16)
    head = head if b"+" in head[2:4] else head[:8]  # of a BigTIFF
    try:
        following = ImageFileDirectory_v2(head).next
    except SyntaxError:
        raise DataError("not an image") from None
    seen = set[int]()
    while following and following not in seen and len(seen) < MOST_PAGES:
        seen.add(following)
        header = ImageFileDirectory_v2(head)
        file.seek(following)
        header.load(file)
        following = header.next
        if not int(header.get(KIND, 0)) & REDUCED:
            yield header


def _decoded(header: ImageFileDirectory_v2, data: bytes) -> Pixels:
    """Return a page as (H, W, C)."""
    width, height, channels = (int(header.get(tag, 1)) for tag in (WIDTH, HEIGHT, SAMPLES))
    bits = set(_many(header, BITS, (1,)))
    formats = set(_many(header, FORMAT, (1,)))
    kind = TYPES.get((min(formats), min(bits))) if len(bits) == len(formats) == 1 else None
    compression = int(header.get(COMPRESSION, 1))
    predictor = int(header.get(PREDICTOR, 1))
    if kind is None:
        raise DataError(f"a TIFF of {max(bits)} bits in this form is not read; save it as 8 or 16 bits, or as floats")
    if compression not in LOSSLESS or predictor not in (1, DIFFERENCES) or int(header.get(COLOURS, GREY)) > RGB:
        raise DataError(
            f"a TIFF of this compression ({compression}), predictor or colour space is not read channel by channel; "
            "save it as LZW or deflate"
        )
    tiled = TILE_OFFSETS in header
    starts = _many(header, TILE_OFFSETS if tiled else OFFSETS)
    lengths = _many(header, TILE_COUNTS if tiled else COUNTS)
    places = list(zip(starts, lengths, strict=True))
    planes = channels if int(header.get(PLANAR, 1)) == 2 else 1
    if width * height < 1 or not places or len(places) % planes:
        raise DataError("its header is damaged")
    each = channels // planes  # values of a pixel that stand side by side
    block = int(header.get(TILE_WIDTH, width)) if tiled else width
    share = len(places) // planes
    found = []
    for plane in range(planes):
        chunks = [data[start : start + length] for start, length in places[plane * share : (plane + 1) * share]]
        shape = (height, width, each, block, kind)
        found.append(_as_grey(header, chunks, shape, compression, tiled, undo=predictor == DIFFERENCES))
    return found[0] if planes == 1 else np.concatenate(found, axis=2)


def _as_grey(
    header: ImageFileDirectory_v2,
    chunks: list[bytes],
    shape: tuple[int, int, int, int, str],
    compression: int,
    tiled: bool,
    undo: bool,
) -> Pixels:
    """Decode strips or tiles as those of a grey image. shape: height, width, values of a pixel, tile's width, type."""
    height, width, each, block, kind = shape
    little = header.prefix == b"II"
    order: Literal["little", "big"] = "little" if little else "big"
    tags: dict[int, list[int]] = {
        WIDTH: [width * each],
        HEIGHT: [height],
        BITS: [8 * int(kind[1])],
        COMPRESSION: [compression],
        COLOURS: [GREY],
        SAMPLES: [1],
        FORMAT: [3 if kind == "f4" else 1],  # signed values are decoded as unsigned ones, of the same bits
    }
    if tiled:
        tags |= {TILE_WIDTH: [block * each], TILE_HEIGHT: [int(header[TILE_HEIGHT])]}
    else:
        tags |= {STRIP_ROWS: [min(height, int(header.get(STRIP_ROWS, height)))]}
    offsets, counts = (TILE_OFFSETS, TILE_COUNTS) if tiled else (OFFSETS, COUNTS)
    tags |= {offsets: [0] * len(chunks), counts: [len(chunk) for chunk in chunks]}
    # The header, then the lists that do not fit into it, then the chunks.
    after = 8 + 2 + 12 * len(tags) + 4
    lists = sum(4 * len(values) for values in tags.values() if len(values) > 1)
    start = after + lists
    for number, chunk in enumerate(chunks):
        tags[offsets][number] = start
        start += len(chunk)
    entries = bytearray()
    extra = bytearray()
    for tag in sorted(tags):
        values = b"".join(value.to_bytes(4, order) for value in tags[tag])
        where = values if len(values) == 4 else (after + len(extra)).to_bytes(4, order)
        extra += b"" if len(values) == 4 else values
        entries += tag.to_bytes(2, order) + (4).to_bytes(2, order) + len(tags[tag]).to_bytes(4, order) + where
    head = (b"II*\0" if little else b"MM\0*") + (8).to_bytes(4, order) + len(tags).to_bytes(2, order)
    whole = b"".join([head, bytes(entries), bytes(4), bytes(extra), *chunks])
    image = _grey(whole, kind).reshape(height, width, each)
    if not undo:
        return image
    for left in range(0, width, block):  # the sum runs over, as the differences did
        part = image[:, left : left + block]
        np.cumsum(part, axis=1, dtype=part.dtype, out=part)
    return image


def _grey(file: bytes, kind: str) -> Pixels:
    """Decode a grey image as a copy, in this machine's byte order."""
    if (
        kind == "f4"
    ):  # Pillow swaps the bytes of compressed ones that are big-endian; OpenCV fails on some tiles of 8 bits
        decoded = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None:
            raise DataError("its pixels are damaged")
        return np.asarray(decoded, np.float32)
    with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
        return np.asarray(image).astype(kind.replace("i", "u")).view(kind)


def _many(header: ImageFileDirectory_v2, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    value = header.get(tag, default)
    return tuple(int(one) for one in value) if isinstance(value, tuple) else (int(value),)
