"""Build a cache of decoded images, whole or not at all. The caller holds the lock."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data.cache_stack import StackWriter, sync
from trainables.data.dataset import VOID, MaskReader, Reader
from trainables.data.masks import check_size
from trainables.data.view import View, check_aspect
from trainables.data.view import shrunk as shrunk  # what a cache keeps is also asked for here
from visionsweep.core.cores import num_cores
from visionsweep.core.errors import DataError

AHEAD = 256  # images decoded ahead of the writer
SAMPLE = 16  # images decoded to guess the size of all
STRIP = 2**22  # pixels of a mask that are counted at once

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The source of N images, and for segmentation of their masks."""

    names: Sequence[str]
    reader: Reader
    mask_reader: MaskReader | None = None


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image decoded for all views, with its mask.

    images  (h, w, 3) shrunk, one for each view
    mask    (H, W), of its own size
    pixels  (256,) int64: how many pixels of the mask have each value
    """

    images: list[npt.NDArray[np.uint8]]
    mask: npt.NDArray[np.uint8] | None = None
    pixels: npt.NDArray[np.int64] | None = None


def build(source: Source, views: Mapping[View, Path], masks: Path | None = None) -> None:
    """Decode every image once into a folder for each of `views`, and the masks into theirs if it is given.

    A folder appears only when it is complete and on the disk. Raises DataError if the disk has too little room, and
    OSError if it cannot be written.
    """
    folders = [*views.values(), *([] if masks is None else [masks])]
    for folder in folders:
        for leftover in folder.parent.glob(f"{folder.name}.tmp-*"):
            shutil.rmtree(leftover)  # of a build that was killed: the holder of the lock is the only one building
    _check_space(folders[0].parent, source, list(views), masks is not None)
    log.info("decoding %d images into %s, once", len(source.names), ", ".join(map(str, folders)))
    scratch = {folder: folder.with_name(f"{folder.name}.tmp-{os.getpid()}") for folder in folders}
    try:
        for path in scratch.values():
            path.mkdir()
        _write(
            source, {view: scratch[folder] for view, folder in views.items()}, None if masks is None else scratch[masks]
        )
        for folder, path in scratch.items():
            if folder.exists():
                shutil.rmtree(folder)  # not a whole cache, or the caller would have opened it
            os.rename(path, folder)
        sync(folders[0].parent)
    except BaseException:
        for path in scratch.values():
            shutil.rmtree(path, ignore_errors=True)  # what fills a disk must not stay there
        raise


def inspect(source: Source) -> tuple[dict[int, str], npt.NDArray[np.int64] | None]:
    """Return why each unusable image is unusable, by index, and the masks' pixel counts (N, 256) per value, if any."""
    bad: dict[int, str] = {}
    pixels = None if source.mask_reader is None else np.zeros((len(source.names), VOID + 1), np.int64)
    for index, got in _decode_all(source, []):
        if isinstance(got, str):
            bad[index] = got
        elif pixels is not None and got.pixels is not None:
            pixels[index] = got.pixels
    return bad, pixels


def _decode(source: Source, index: int, views: Sequence[View]) -> Decoded:
    image = source.reader(index)  # (H, W, 3)
    if source.mask_reader is None:
        return Decoded([view.shrink(image) for view in views])
    check_aspect(image.shape, source.names[index])
    mask = source.mask_reader(index)  # (H, W), or of another scale
    check_size(image.shape, mask.shape, source.names[index], source.mask_reader.name(index))
    return Decoded([view.shrink(image) for view in views], mask, count_values(mask))


def count_values(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count each value of a mask, (256,). Works in strips, as `bincount` makes eight bytes of each pixel."""
    flat = mask.ravel()
    strips = (flat[start : start + STRIP] for start in range(0, len(flat), STRIP))
    return sum((np.bincount(strip, minlength=VOID + 1) for strip in strips), np.zeros(VOID + 1, np.int64))


def _decode_all(source: Source, views: Sequence[View]) -> Iterator[tuple[int, Decoded | str]]:
    """Yield (index, the decoded image or why it cannot be decoded), in order."""

    def decode(index: int) -> Decoded | str:
        try:
            return _decode(source, index, views)
        except DataError as error:
            return str(error)
        except OSError as error:
            return f"image '{source.names[index]}' cannot be read: {error.strerror or error}"

    workers = num_cores()
    # Bounds memory: images wait shrunk for the writer, and masks at their own size, which may be a camera's.
    ahead = AHEAD if source.mask_reader is None else workers + 1
    waiting = deque[Future[Decoded | str]]()
    with ThreadPoolExecutor(workers) as pool:  # threads: PIL and OpenCV decode outside the GIL
        for index in range(len(source.names)):
            waiting.append(pool.submit(decode, index))
            if len(waiting) > ahead:
                yield index - ahead, waiting.popleft().result()
        for index in range(len(source.names) - len(waiting), len(source.names)):
            yield index, waiting.popleft().result()


def _write(source: Source, views: Mapping[View, Path], masks: Path | None) -> None:
    count = len(source.names)
    pixels = np.zeros((count, VOID + 1), np.int64)
    bad: dict[int, str] = {}
    with contextlib.ExitStack() as open_until_written:
        stacks = [open_until_written.enter_context(StackWriter(folder, count)) for folder in views.values()]
        of_masks = None if masks is None else open_until_written.enter_context(StackWriter(masks, count))
        for index, got in _decode_all(source, list(views)):
            if isinstance(got, str):
                bad[index] = got
                continue
            for stack, image in zip(stacks, got.images, strict=True):
                stack.add(index, image)
            if of_masks is not None and got.mask is not None and got.pixels is not None:
                of_masks.add(index, got.mask)
                pixels[index] = got.pixels
    if masks is not None:
        np.save(masks / "pixel_counts.npy", pixels)
    for stack in [*stacks, *([] if of_masks is None else [of_masks])]:
        stack.finish(bad)


def _check_space(parent: Path, source: Source, views: Sequence[View], with_masks: bool) -> None:
    """Raise DataError early if the cache will not fit. Its size is estimated from a few images spread over the data."""
    count = len(source.names)
    sample = sorted(set(np.linspace(0, count - 1, SAMPLE, dtype=int).tolist())) if count else []
    sizes = []
    for index in sample:
        try:
            got = _decode(source, index, views)
        except (DataError, OSError):
            continue  # counted as bad when all are decoded
        of_mask = got.mask.nbytes if with_masks and got.mask is not None else 0
        sizes.append(sum(image.nbytes for image in got.images) + of_mask)
    needed = int(1.1 * count * np.mean(sizes)) if sizes else 0
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise DataError(
            f"the image cache needs about {needed / 1e6:,.1f} MB for {count:,} images, but "
            f"'{parent}' has {free / 1e6:,.1f} MB free. "
            "Name another place with --cache-dir, or pass --no-cache."
        )
