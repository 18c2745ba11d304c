"""What values the channels of training images have, by which they are normalised."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config.bands import Bands
from trainables.config.trial import TrialConfig
from trainables.data.bands import BandReader, Kind
from trainables.data.cache import CachedImages
from trainables.data.dataset import Dataset
from trainables.data.images import Images
from trainables.data.stratify import stratified_draw
from visionsweep.core.errors import DataError
from visionsweep.core.writing import write_whole

MOST_IMAGES = 5000  # their pixels give a mean to three digits
LEAST_STD = 1e-6  # of a channel that holds one value


def band_statistics(dataset: Dataset, images: Images) -> Bands | None:
    """Return mean and deviation of each channel over the training images, None for RGB of 8 bits.

    They are kept in the cache. Raises DataError if no training image can be read.
    """
    reader = dataset.reader
    if not isinstance(reader, BandReader):
        return None
    positions = dataset.indices("train")
    if len(positions) > MOST_IMAGES:
        positions = positions[stratified_draw(dataset.targets[positions], MOST_IMAGES, 0)]
    kept = _kept_at(images, positions)
    if kept is not None and kept.is_file():
        try:
            return Bands.model_validate_json(kept.read_text())
        except (OSError, ValueError):
            pass  # counted again
    bands = _counted(images, positions.tolist(), reader.kind)
    if kept is not None:
        write_whole(kept, lambda path: path.write_text(bands.model_dump_json()))
    return bands


def check_bands(config: TrialConfig, dataset: Dataset, who: str) -> None:
    """Raise DataError if data has other channels than a model was trained on."""
    bands = config.model.bands
    wanted = Kind(3, "uint8") if bands is None else Kind(bands.channels, bands.dtype)
    found = dataset.reader.kind if isinstance(dataset.reader, BandReader) else Kind(3, "uint8")
    if wanted != found:
        raise DataError(f"{dataset.spec} has {found}, and {who} takes {wanted}. Name other data.")


def channels_of(config: TrialConfig) -> str | None:
    """The `--channels` with which a model's data is read."""
    return None if config.model.bands is None else str(config.model.bands.channels)


def _kept_at(images: Images, positions: np.ndarray) -> Path | None:
    if not isinstance(images, CachedImages):
        return None
    digest = hashlib.sha256(np.ascontiguousarray(positions, np.int64).tobytes()).hexdigest()[:16]
    return images.place.folder(f"{images.view.key}-bands-{digest}.json")


def _counted(images: Images, positions: list[int], kind: Kind) -> Bands:
    """Sum in float64 over all pixels, each image's about the first one's mean: squares of 16 bits lose no digits."""
    about: Any = None
    count = 0
    total = np.zeros(kind.channels)
    squares = np.zeros(kind.channels)
    for position in positions:
        try:
            pixels = images[position].reshape(-1, kind.channels).astype(np.float64)
        except DataError:
            if not getattr(images, "skips", False):
                raise
            continue
        about = pixels.mean(axis=0) if about is None else about
        away = pixels - about
        count += len(away)
        total += away.sum(axis=0)
        squares += (away**2).sum(axis=0)
    if about is None:
        raise DataError("no training image can be read, so its channels have no mean. Look at the data.")
    mean = about + total / count
    std = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
    least = LEAST_STD * max(1.0, float(np.abs(mean).max()))
    return Bands(
        dtype=kind.dtype,  # type: ignore[arg-type]  # a BandReader reads no other
        mean=tuple(float(value) for value in mean),
        std=tuple(max(float(value), least) for value in std),
    )
