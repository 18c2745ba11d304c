"""Decode once: every image of a data set, resized, in one file that all trials of a machine map; so its masks.

A cache is the folder `<fingerprint>-<short side>/` with

    images.u8   all images one after the other, (H, W, 3) uint8 in C order
    index.npy   (N, 3) int64: offset in bytes, height, width; height 0 where the image could not be read
    meta.json   version, count, and why the unreadable ones are so

and for segmentation, beside them,

    masks.u8, masks_index.npy   the masks likewise, (H, W) uint8, each of its own size: nothing is lost by resizing
    pixel_counts.npy            (N, 256) int64: how many pixels of each mask have each value

It is built in a folder beside it and renamed when it is whole, so what stands under its name is never half-written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from search_spaces.errors import DataError
from trainables.data.cache_build import CACHE_VERSION, Source, build, decode_small, inspect
from trainables.data.dataset import MaskReader, Reader

NO_MASKS = "this data set has no masks"
NEXT_MOVE = "Name another place with --cache-dir, or pass --no-cache."


class Images(Protocol):
    """The pixels of a data set; `bad` says why an index has none."""

    @property
    def bad(self) -> Mapping[int, str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, the caller's own to change; a DataError for a bad one."""

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        """(H, W) uint8 class indices and VOID, of the mask's own size, the caller's own to change.

        A DataError for a bad one; a RuntimeError where the data set has no masks.
        """


class CachedImages:
    """Images of a finished cache. Pickles as its path: a process maps the file for itself."""

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self._folder = folder
        self._index = np.load(folder / "index.npy")  # (N, 3) offset, height, width
        if meta["version"] != CACHE_VERSION or meta["count"] != len(self._index):
            raise ValueError(f"{folder} is not a whole cache of version {CACHE_VERSION}")
        self._pixels = _mapped(folder / "images.u8", self._index, channels=3)
        self.pixel_counts: npt.NDArray[np.int64] | None = None
        if meta.get("masks", False):
            self._mask_index = np.load(folder / "masks_index.npy")  # (N, 3) offset, height, width
            self._masks = _mapped(folder / "masks.u8", self._mask_index, channels=1)
            self.pixel_counts = np.load(folder / "pixel_counts.npy", mmap_mode="r")
        self.bad: Mapping[int, str] = {int(index): why for index, why in meta["bad"].items()}

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        if index in self.bad:
            raise DataError(self.bad[index])
        offset, height, width = (int(value) for value in self._index[index])
        flat = self._pixels[offset : offset + height * width * 3]
        return np.array(flat).reshape(height, width, 3)  # a copy: torch warns of arrays that it may not write to

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        if self.pixel_counts is None:
            raise RuntimeError(NO_MASKS)
        if index in self.bad:
            raise DataError(self.bad[index])
        offset, height, width = (int(value) for value in self._mask_index[index])
        return np.array(self._masks[offset : offset + height * width]).reshape(height, width)

    def __reduce__(self) -> tuple[type[CachedImages], tuple[Path]]:
        return CachedImages, (self._folder,)  # a memmap would pickle all its pixels


class DecodedImages:
    """Images decoded at each access, for where there is no room for a cache; resized just as a cache's are."""

    def __init__(
        self,
        source: Source,
        short_side_px: int,
        bad: Mapping[int, str],
        pixel_counts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self._source, self._short_side_px, self.bad, self.pixel_counts = source, short_side_px, bad, pixel_counts

    def __len__(self) -> int:
        return len(self._source.names)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        self._check(index)
        return decode_small(self._source.reader, index, self._short_side_px).copy()

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        if self._source.mask_reader is None:
            raise RuntimeError(NO_MASKS)
        self._check(index)
        return self._source.mask_reader(index).copy()

    def _check(self, index: int) -> None:
        if index in self.bad:
            raise DataError(self.bad[index])
        if not 0 <= index < len(self):
            raise IndexError(index)


def default_cache_dir() -> Path:
    """$VISIONSWEEP_CACHE_DIR, or ~/.cache/visionsweep."""
    named = os.environ.get("VISIONSWEEP_CACHE_DIR")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "visionsweep"


def open_images(
    names: tuple[str, ...],
    reader: Reader,
    fingerprint: str,
    short_side_px: int,
    cache_dir: Path | None,
    mask_reader: MaskReader | None = None,
) -> CachedImages | DecodedImages:
    """The images behind `names`, none with a shorter side above `short_side_px`; smaller ones are left as they are.

    Maps the cache, building it first where there is none. Of several processes one builds and the others wait.
    Without `cache_dir`, one pass decodes everything to find the unreadable ones, and each access decodes anew.

    Raises DataError where the cache cannot be written.
    """
    source = Source(names, reader, mask_reader)
    if cache_dir is None:
        return DecodedImages(source, short_side_px, *inspect(source))
    folder = cache_dir.absolute() / f"{fingerprint}-{short_side_px}"
    masked = mask_reader is not None
    finished = _open_finished(folder, masked)  # before the lock: a finished cache may lie on a disk that is read-only
    if finished is not None:
        return finished
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            finished = _open_finished(folder, masked)  # another process may have built it while this one waited
            if finished is None:
                build(folder, source, short_side_px)
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        raise DataError(f"the image cache '{folder}' cannot be written: {error}. {NEXT_MOVE}") from error
    return finished or CachedImages(folder)


def _mapped(path: Path, index: npt.NDArray[np.int64], channels: int) -> npt.NDArray[np.uint8]:
    """(bytes,) of the file; a ValueError where it is not as long as its index (N, 3) says."""
    size = int((index[:, 1] * index[:, 2] * channels).sum())
    if size != path.stat().st_size:
        raise ValueError(f"{path} has not the size that its index says")
    # An empty file cannot be mapped: every image may be bad.
    return np.memmap(path, np.uint8, "r") if size else np.zeros(0, np.uint8)


def _open_finished(folder: Path, masked: bool) -> CachedImages | None:
    """The cache, or None where there is none, or one that was tampered with or is of another version."""
    try:
        images = CachedImages(folder)
        return images if masked == (images.pixel_counts is not None) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
