"""Build a cache of decoded images, whole or not at all. The caller holds the lock."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from search_spaces.errors import DataError
from trainables.data.dataset import VOID, MaskReader, Reader
from trainables.data.masks import check_size

CACHE_VERSION = 1
CHUNK = 256  # images decoded ahead of the writer: bounds memory
CHUNK_WITH_MASKS = 32  # masks keep their own size, which may be a camera's
SAMPLE = 16  # images decoded to guess the size of all

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where the N images, and for segmentation their masks, are decoded from."""

    names: Sequence[str]
    reader: Reader
    mask_reader: MaskReader | None = None


@dataclass(frozen=True, eq=False)
class Decoded:
    """image (h, w, 3), shrunk; mask (H, W) of its own size; pixels (256,) int64: how often the mask has each value."""

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8] | None = None
    pixels: npt.NDArray[np.int64] | None = None


def build(folder: Path, source: Source, short_side_px: int) -> None:
    """Decode every image, and its mask, into `folder`, which appears only when it is whole and on the disk.

    Raises DataError where the disk has too little room, OSError where it cannot be written.
    """
    for leftover in folder.parent.glob(f"{folder.name}.tmp-*"):
        shutil.rmtree(leftover)  # of a build that was killed: who holds the lock is the only one building
    _check_space(folder, source, short_side_px)
    log.info("decoding %d images into %s, once", len(source.names), folder)
    scratch = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        scratch.mkdir()
        _write(scratch, source, short_side_px)
        if folder.exists():
            shutil.rmtree(folder)  # not a whole cache, or the caller would have opened it
        os.rename(scratch, folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)  # what fills a disk must not stay there
        raise


def decode_small(reader: Reader, index: int, short_side_px: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) with the shorter side at most `short_side_px`, the aspect ratio kept."""
    return shrunk(reader(index), short_side_px)


def shrunk(image: npt.NDArray[np.uint8], short_side_px: int) -> npt.NDArray[np.uint8]:
    """(h, w, 3) of (H, W, 3)."""
    height, width = image.shape[:2]
    scale = short_side_px / min(height, width)
    if scale >= 1:
        return image
    size = (max(short_side_px, round(width * scale)), max(short_side_px, round(height * scale)))
    # Area averages over all source pixels, so fine patterns do not turn into moire.
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def inspect(source: Source) -> tuple[dict[int, str], npt.NDArray[np.int64] | None]:
    """Index -> why, of every image that cannot be used; and (N, 256) pixels of each value in each mask, if any."""
    bad: dict[int, str] = {}
    pixels = None if source.mask_reader is None else np.zeros((len(source.names), VOID + 1), np.int64)
    for index, got in _decode_all(source, 1):
        if isinstance(got, str):
            bad[index] = got
        elif pixels is not None and got.pixels is not None:
            pixels[index] = got.pixels
    return bad, pixels


def _decode(source: Source, index: int, short_side_px: int) -> Decoded:
    image = source.reader(index)  # (H, W, 3)
    if source.mask_reader is None:
        return Decoded(shrunk(image, short_side_px))
    mask = source.mask_reader(index)  # (H, W), or of another scale
    check_size(image.shape, mask.shape, source.names[index], source.mask_reader.name(index))
    return Decoded(shrunk(image, short_side_px), mask, np.bincount(mask.ravel(), minlength=VOID + 1))


def _decode_all(source: Source, short_side_px: int) -> Iterator[tuple[int, Decoded | str]]:
    """(index, what was decoded or why it cannot be) in order."""

    def decode(index: int) -> Decoded | str:
        try:
            return _decode(source, index, short_side_px)
        except DataError as error:
            return str(error)
        except OSError as error:
            return f"image '{source.names[index]}' cannot be read: {error.strerror or error}"

    count, step = len(source.names), CHUNK if source.mask_reader is None else CHUNK_WITH_MASKS
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads: PIL and OpenCV decode outside the GIL
        for start in range(0, count, step):
            chunk = range(start, min(start + step, count))
            yield from zip(chunk, pool.map(decode, chunk), strict=True)


def _write(scratch: Path, source: Source, short_side_px: int) -> None:
    count = len(source.names)
    images = _Stack(scratch / "images.u8", count)
    masks = None if source.mask_reader is None else _Stack(scratch / "masks.u8", count)
    pixels = np.zeros((count, VOID + 1), np.int64)
    bad: dict[int, str] = {}
    try:
        for i, got in _decode_all(source, short_side_px):
            if isinstance(got, str):
                bad[i] = got
            images.add(i, None if isinstance(got, str) else got.image)
            if masks is not None:
                masks.add(i, None if isinstance(got, str) else got.mask)
            if not isinstance(got, str) and got.pixels is not None:
                pixels[i] = got.pixels
    finally:
        images.file.close()
        if masks is not None:
            masks.file.close()
    np.save(scratch / "index.npy", images.index)
    if masks is not None:
        np.save(scratch / "masks_index.npy", masks.index)
        np.save(scratch / "pixel_counts.npy", pixels)
    meta = {"version": CACHE_VERSION, "count": count, "masks": masks is not None, "bad": bad}
    (scratch / "meta.json").write_text(json.dumps(meta))
    for file in scratch.iterdir():
        _sync(file)  # before the rename: after a power cut the name must not stand on empty files
    _sync(scratch)


class _Stack:
    """Arrays one after the other in a file, and (N, 3) where: offset, height, width."""

    def __init__(self, path: Path, count: int) -> None:
        self.file = open(path, "wb")  # noqa: SIM115  # open until all are written
        self.index = np.zeros((count, 3), np.int64)
        self.offset = 0

    def add(self, index: int, array: npt.NDArray[np.uint8] | None) -> None:
        self.index[index, 0] = self.offset
        if array is not None:
            self.index[index, 1:] = array.shape[:2]
            self.offset += self.file.write(np.ascontiguousarray(array).data)


def _check_space(folder: Path, source: Source, short_side_px: int) -> None:
    """A DataError before any time is spent; sizes are guessed from a few images spread over the data."""
    count = len(source.names)
    sample = sorted(set(np.linspace(0, count - 1, SAMPLE, dtype=int).tolist())) if count else []
    sizes = []
    for index in sample:
        try:
            got = _decode(source, index, short_side_px)
            sizes.append(got.image.nbytes + (0 if got.mask is None else got.mask.nbytes))
        except (DataError, OSError):
            continue  # counted as bad when all are decoded
    needed = int(1.1 * count * np.mean(sizes)) if sizes else 0
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise DataError(
            f"the image cache needs about {needed / 1e6:,.1f} MB for {count:,} images, but "
            f"'{folder.parent}' has {free / 1e6:,.1f} MB free. "
            "Name another place with --cache-dir, or pass --no-cache."
        )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
