"""Arrays of (H, W, channels), one after the other in one file: how a cache keeps images and masks.

pixels.u8    the arrays in C order, most of them uint8
index.npy    (N, 3) int64: offset in bytes, height, width. The height is 0 where there is no array
meta.json    version, count, and why some are missing; channels and dtype of arrays that are not RGB of 8 bits
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visionsweep.core.errors import DataError

CACHE_VERSION = 2
NOT_WHOLE = (Exception,)  # opening a folder that is no whole stack raises whatever numpy and JSON do


class Stack:
    """A finished stack, mapped. `bad`: index -> why there is no array. Pickles as its folder."""

    def __init__(self, folder: Path, channels: int) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self._folder = folder
        self._channels = int(meta.get("channels", channels))
        self._dtype = np.dtype(meta.get("dtype", "uint8"))
        self._index = np.load(folder / "index.npy")  # (N, 3) offset, height, width
        if meta["version"] != CACHE_VERSION or meta["count"] != len(self._index):
            raise ValueError(f"{folder} is not a whole cache of version {CACHE_VERSION}")
        size = int((self._index[:, 1] * self._index[:, 2]).sum()) * self._channels * self._dtype.itemsize
        file = folder / "pixels.u8"
        if size != file.stat().st_size:
            raise ValueError(f"{file} has not the size that its index says")
        # An empty file cannot be mapped: every image may be bad.
        self._pixels = np.memmap(file, np.uint8, "r") if size else np.zeros(0, np.uint8)
        self.bad: Mapping[int, str] = {int(index): why for index, why in meta["bad"].items()}

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """Return a copy of array `index`, (H, W, channels). Raises DataError for a bad one."""
        if index in self.bad:
            raise DataError(self.bad[index])
        offset, height, width = (int(value) for value in self._index[index])
        flat = self._pixels[offset : offset + height * width * self._channels * self._dtype.itemsize]
        array: npt.NDArray[Any] = np.array(flat).view(self._dtype)  # torch warns of arrays that it may not write to
        return array.reshape(height, width, self._channels)

    def __reduce__(self) -> tuple[type[Stack], tuple[Path, int]]:
        return Stack, (self._folder, self._channels)  # a memmap would pickle all its pixels


class StackWriter:
    """Writes a stack into a folder that is there. Closed before it is finished."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.file = open(folder / "pixels.u8", "wb")  # noqa: SIM115  # `__exit__` closes it
        self.index = np.zeros((count, 3), np.int64)
        self.offset = 0
        self.about: dict[str, Any] = {}

    def __enter__(self) -> StackWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def add(self, index: int, array: npt.NDArray[Any]) -> None:
        if array.ndim == 3 and (array.shape[2] != 3 or array.dtype != np.uint8):
            self.about = {"channels": array.shape[2], "dtype": array.dtype.name}
        self.index[index] = self.offset, *array.shape[:2]
        self.offset += self.file.write(np.ascontiguousarray(array).view(np.uint8).data)

    def finish(self, bad: Mapping[int, str]) -> None:
        """Flush everything to the disk, so that no folder of this name is left with empty files by a power cut."""
        np.save(self.folder / "index.npy", self.index)
        meta = {"version": CACHE_VERSION, "count": len(self.index), "bad": bad, **self.about}
        (self.folder / "meta.json").write_text(json.dumps(meta))
        for file in self.folder.iterdir():
            sync(file)
        sync(self.folder)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
