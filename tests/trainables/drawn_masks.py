"""Small folders of images with masks, written for the tests of masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.cache import Images
from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from visionsweep.core.errors import DataError

HEIGHT = 16
WIDTH = 20
# Two rows of each value but the last, which fills the rest.
STRIPES = (0, 1, 2)
UNNAMED = "No file names the classes: they are called 'class 0' to 'class 2'. classes.txt names them."


def photo(path: Path, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def stripes(values: Sequence[int], size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """Return a mask of stripes, (H, W) int64."""
    mask = np.full((size[1], size[0]), values[-1], np.int64)
    for i, value in enumerate(values[:-1]):
        mask[2 * i : 2 * i + 2] = value
    return mask


def mask(path: Path, values: Sequence[int] | np.ndarray, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """An 8-bit grey index mask of stripes, or of the given (H, W) values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = values if isinstance(values, np.ndarray) else stripes(values, size)
    Image.fromarray(drawn.astype(np.uint8)).save(path)
    return path


def pairs(root: Path, stems: Sequence[str], values: Sequence[int] = STRIPES, seed: int = 0) -> Path:
    """Write images/ and masks/."""
    for i, stem in enumerate(stems):
        photo(root / "images" / f"{stem}.jpg", seed + i)
        mask(root / "masks" / f"{stem}.png", values)
    return root


def load(spec: Path | str, **options: object) -> tuple[Dataset, Images]:
    options = {"short_side_px": 8, "cache_dir": None, **options}
    return load_dataset(str(spec), **options)  # type: ignore[arg-type]


def refusal(spec: Path | str, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load(spec, **options)
    return str(caught.value)
