"""Folders of small images, written for the tests of how folders are read."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from visionsweep.core.errors import DataError


def photo(path: Path, seed: int | None = None) -> Path:
    """A small image of noise, another one for every path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(str(path).encode()) if seed is None else seed)
    Image.fromarray(pixels.integers(0, 255, (8, 9, 3), dtype=np.uint8)).save(path)
    return path


def photos(root: Path, folders: str, each: int = 4) -> Path:
    """Write `each` images to each of the folders, whose names are separated by blanks."""
    for folder in folders.split():
        for number in range(each):
            photo(root / folder / f"{number}.png")
    return root


def load(spec: Path | str, **options: object) -> Dataset:
    return load_dataset(str(spec), short_side_px=8, cache_dir=None, **options)[0]  # type: ignore[arg-type]


def refusal(spec: Path | str, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load(spec, **options)
    return str(caught.value)


def counts(dataset: Dataset) -> dict[str, int]:
    """Return the number of images of train, val and test, without empty ones."""
    found = {split: len(dataset.indices(split)) for split in ("train", "val", "test")}
    return {split: count for split, count in found.items() if count}
