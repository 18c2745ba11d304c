"""Build a cache of decoded images, whole or not at all. The caller holds the lock."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from search_spaces.errors import DataError
from trainables.data.dataset import Reader

CACHE_VERSION = 1
CHUNK = 256  # images decoded ahead of the writer: bounds memory
SAMPLE = 16  # images decoded to guess the size of all

log = logging.getLogger(__name__)


def build(folder: Path, names: Sequence[str], reader: Reader, short_side_px: int) -> None:
    """Decode every image into `folder`, which appears only when it is whole and on the disk.

    Raises DataError where the disk has too little room, OSError where it cannot be written.
    """
    for leftover in folder.parent.glob(f"{folder.name}.tmp-*"):
        shutil.rmtree(leftover)  # of a build that was killed: who holds the lock is the only one building
    _check_space(folder, names, reader, short_side_px)
    log.info("decoding %d images into %s, once", len(names), folder)
    scratch = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        scratch.mkdir()
        _write(scratch, names, reader, short_side_px)
        if folder.exists():
            shutil.rmtree(folder)  # not a whole cache, or the caller would have opened it
        os.rename(scratch, folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)  # what fills a disk must not stay there
        raise


def decode_small(reader: Reader, index: int, short_side_px: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) with the shorter side at most `short_side_px`, the aspect ratio kept."""
    image: npt.NDArray[np.uint8] = reader(index)  # (H, W, 3)
    height, width = image.shape[:2]
    scale = short_side_px / min(height, width)
    if scale >= 1:
        return image
    size = (max(short_side_px, round(width * scale)), max(short_side_px, round(height * scale)))
    # Area averages over all source pixels, so fine patterns do not turn into moire.
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def unreadable(reader: Reader, names: Sequence[str]) -> dict[int, str]:
    """Index -> why, of every image that cannot be decoded."""
    return {index: got for index, got in _decode_all(reader, names, 1) if isinstance(got, str)}


def _decode_all(
    reader: Reader, names: Sequence[str], short_side_px: int
) -> Iterator[tuple[int, npt.NDArray[np.uint8] | str]]:
    """(index, image or why it cannot be read) in order."""

    def decode(index: int) -> npt.NDArray[np.uint8] | str:
        try:
            return decode_small(reader, index, short_side_px)
        except DataError as error:
            return str(error)
        except OSError as error:
            return f"image '{names[index]}' cannot be read: {error.strerror or error}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads: PIL and OpenCV decode outside the GIL
        for start in range(0, len(names), CHUNK):
            chunk = range(start, min(start + CHUNK, len(names)))
            yield from zip(chunk, pool.map(decode, chunk), strict=True)


def _write(scratch: Path, names: Sequence[str], reader: Reader, short_side_px: int) -> None:
    index = np.zeros((len(names), 3), np.int64)  # offset, height, width
    bad: dict[int, str] = {}
    offset = 0
    with open(scratch / "images.u8", "wb") as file:
        for i, got in _decode_all(reader, names, short_side_px):
            index[i, 0] = offset
            if isinstance(got, str):
                bad[i] = got
                continue
            index[i, 1:] = got.shape[:2]
            offset += file.write(np.ascontiguousarray(got).data)
    np.save(scratch / "index.npy", index)
    (scratch / "meta.json").write_text(json.dumps({"version": CACHE_VERSION, "count": len(names), "bad": bad}))
    for name in ("images.u8", "index.npy", "meta.json"):
        _sync(scratch / name)  # before the rename: after a power cut the name must not stand on empty files
    _sync(scratch)


def _check_space(folder: Path, names: Sequence[str], reader: Reader, short_side_px: int) -> None:
    """A DataError before any time is spent; sizes are guessed from a few images spread over the data."""
    sample = sorted(set(np.linspace(0, len(names) - 1, SAMPLE, dtype=int).tolist())) if names else []
    sizes = []
    for index in sample:
        try:
            sizes.append(decode_small(reader, index, short_side_px).nbytes)
        except (DataError, OSError):
            continue  # counted as bad when all are decoded
    needed = int(1.1 * len(names) * np.mean(sizes)) if sizes else 0
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise DataError(
            f"the image cache needs about {needed / 1e6:,.1f} MB for {len(names):,} images, but "
            f"'{folder.parent}' has {free / 1e6:,.1f} MB free. "
            "Name another place with --cache-dir, or pass --no-cache."
        )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
