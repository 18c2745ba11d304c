"""Decode once: every image of a data set, resized, in one file that all trials of a machine map.

A cache is the folder `<fingerprint>-<short side>/` with

    images.u8   all images one after the other, (H, W, 3) uint8 in C order
    index.npy   (N, 3) int64: offset in bytes, height, width; height 0 where the image could not be read
    meta.json   version, count, and why the unreadable ones are so

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
from trainables.data.cache_build import CACHE_VERSION, build, decode_small, unreadable
from trainables.data.dataset import Reader

NEXT_MOVE = "Name another place with --cache-dir, or pass --no-cache."


class Images(Protocol):
    """The pixels of a data set; `bad` says why an index has none."""

    @property
    def bad(self) -> Mapping[int, str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, the caller's own to change; a DataError for a bad one."""


class CachedImages:
    """Images of a finished cache. Pickles as its path: a process maps the file for itself."""

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self._folder = folder
        self._index = np.load(folder / "index.npy")  # (N, 3) offset, height, width
        size = int((self._index[:, 1] * self._index[:, 2] * 3).sum())
        stored = (folder / "images.u8").stat().st_size
        if meta["version"] != CACHE_VERSION or meta["count"] != len(self._index) or size != stored:
            raise ValueError(f"{folder} is not a whole cache of version {CACHE_VERSION}")
        # An empty file cannot be mapped: every image may be bad.
        self._pixels = np.memmap(folder / "images.u8", np.uint8, "r") if size else np.zeros(0, np.uint8)
        self.bad: Mapping[int, str] = {int(index): why for index, why in meta["bad"].items()}

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        if index in self.bad:
            raise DataError(self.bad[index])
        offset, height, width = (int(value) for value in self._index[index])
        flat = self._pixels[offset : offset + height * width * 3]
        return np.array(flat).reshape(height, width, 3)  # a copy: torch warns of arrays that it may not write to

    def __reduce__(self) -> tuple[type[CachedImages], tuple[Path]]:
        return CachedImages, (self._folder,)  # a memmap would pickle all its pixels


class DecodedImages:
    """Images decoded at each access, for where there is no room for a cache; resized just as a cache's are."""

    def __init__(self, reader: Reader, count: int, short_side_px: int, bad: Mapping[int, str]) -> None:
        self._reader, self._count, self._short_side_px, self.bad = reader, count, short_side_px, bad

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        if index in self.bad:
            raise DataError(self.bad[index])
        if not 0 <= index < self._count:
            raise IndexError(index)
        return decode_small(self._reader, index, self._short_side_px).copy()


def default_cache_dir() -> Path:
    """$VISIONSWEEP_CACHE_DIR, or ~/.cache/visionsweep."""
    named = os.environ.get("VISIONSWEEP_CACHE_DIR")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "visionsweep"


def open_images(
    names: tuple[str, ...], reader: Reader, fingerprint: str, short_side_px: int, cache_dir: Path | None
) -> Images:
    """The images behind `names`, none with a shorter side above `short_side_px`; smaller ones are left as they are.

    Maps the cache, building it first where there is none. Of several processes one builds and the others wait.
    Without `cache_dir`, one pass decodes everything to find the unreadable ones, and each access decodes anew.

    Raises DataError where the cache cannot be written.
    """
    if cache_dir is None:
        return DecodedImages(reader, len(names), short_side_px, unreadable(reader, names))
    folder = cache_dir.absolute() / f"{fingerprint}-{short_side_px}"
    finished = _open_finished(folder)  # before the lock: a finished cache may lie on a disk that is read-only
    if finished is not None:
        return finished
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            finished = _open_finished(folder)  # another process may have built it while this one waited
            if finished is None:
                build(folder, names, reader, short_side_px)
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        raise DataError(f"the image cache '{folder}' cannot be written: {error}. {NEXT_MOVE}") from error
    return finished or CachedImages(folder)


def _open_finished(folder: Path) -> CachedImages | None:
    """The cache, or None where there is none, or one that was tampered with or is of another version."""
    try:
        return CachedImages(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
