"""Near duplicates: the same photo saved again, resized, brightened or cut a little, and frames that hardly differ.

Two photos are near duplicates if two things agree:

- The signs of the lowest frequencies, a perceptual hash of 64 bits (pHash), but for MOST_BITS of them.
- The details that a small grey picture has beyond its coarse shapes. They correlate by SAME at least, after what all
  photos of the set share has been taken away: a black frame, the same road, the outline of an eye. Otherwise photos of
  such a set would all be duplicates.

`benchmarks/near_copies.py` measured both numbers.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageOps

from trainables.data.reading import FileReader, open_image, to_rgb
from trainables.data.together import linked
from visionsweep.core.cores import num_cores

Floats = npt.NDArray[np.float32]

MOST_BITS = 10  # of the 64 that may differ
SAME = 0.7  # correlation of two photos' own details
HASH_PX = 32  # side of the picture whose frequencies are hashed
NUM_SIGNS = 64
DETAIL_PX = 24  # side of the picture that shows the details
COARSE_PX = 8  # side of the one that shows the coarse shapes
LOOK_SIZE = NUM_SIGNS + DETAIL_PX**2
NUM_SHARED = 4  # directions in which the photos of a set differ most, taken away with their mean
PER_DIRECTION = 20  # photos for each such direction: in fewer it could be one photo's own
FLAT = 1e-9  # of the largest variance: a direction with less is rounding
LEAST_OWN = 0.1  # of a photo's details that must be left then
LEAST_CONTRAST = 1.0  # grey levels of deviation, below which a picture has no look
DRAFT_PX = 4 * HASH_PX  # the shorter side at which a JPEG is decoded, at least
MOST_IMAGES = 5000  # of a set that is looked at unasked
BLOCK = 1024  # looks that are compared with all others at once


def look_of(image: npt.NDArray[np.uint8]) -> Floats:
    """Return the look of a picture (H, W, 3): NUM_SIGNS of 1 and -1, then its details of length 1. Flat ones: zeros."""
    look = np.zeros(LOOK_SIZE, np.float32)
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (HASH_PX, HASH_PX), interpolation=cv2.INTER_AREA)
    fine = cv2.resize(grey, (DETAIL_PX, DETAIL_PX), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(fine, (COARSE_PX, COARSE_PX), interpolation=cv2.INTER_AREA)
    details = fine - cv2.resize(coarse, (DETAIL_PX, DETAIL_PX), interpolation=cv2.INTER_LINEAR)
    length = float(np.linalg.norm(details))
    if small.std() < LEAST_CONTRAST or not length:
        return look
    lowest = cv2.dct(small)[:8, :8].ravel()
    look[:NUM_SIGNS] = np.where(lowest > np.median(lowest), 1, -1)
    look[NUM_SIGNS:] = details.ravel() / length
    return look


def looks_of(reader: FileReader) -> Floats:
    """Return the looks of all images, (N, LOOK_SIZE). Those that cannot be read have zeros."""
    with ThreadPoolExecutor(num_cores()) as pool:  # Pillow decodes outside the GIL
        found = list(pool.map(lambda name: _look_at(reader.root / name), reader.names))
    return np.stack(found) if found else np.zeros((0, LOOK_SIZE), np.float32)


@dataclass(frozen=True, eq=False)
class Shared:
    """What the photos of a set share: their mean details (D,), and K directions (K, D) in which they differ most."""

    mean: Floats
    directions: Floats

    @classmethod
    def of(cls, looks: Floats, most: int = NUM_SHARED) -> Shared:
        """Find it in looks (N, LOOK_SIZE). Photos with equal hashes count once, so that copies have no weight."""
        _, first = np.unique(looks[:, :NUM_SIGNS], axis=0, return_index=True)
        details = looks[first, NUM_SIGNS:]
        mean = details.mean(axis=0)
        return cls(mean, _widest((details - mean).astype(np.float64), min(most, len(details) // PER_DIRECTION)))

    def own(self, looks: Floats) -> Floats:
        """Return the details (N, D) of each photo that it does not share, of length 1. Zeros if hardly any is left."""
        rest = looks[:, NUM_SIGNS:] - self.mean
        rest = rest - (rest @ self.directions.T) @ self.directions
        length = np.linalg.norm(rest, axis=1, keepdims=True)
        found: Floats = np.where(length > LEAST_OWN, rest / np.maximum(length, LEAST_OWN), 0).astype(np.float32)
        return found


def _widest(centred: npt.NDArray[np.float64], number: int) -> Floats:
    """Return the `number` directions (K, D) in which rows (N, D) around their mean differ most.

    Of fewer rows than columns the small matrix of rows is solved (Turk and Pentland 1991): of 48 photos in 0.5 ms
    instead of 31 ms.
    """
    num_rows, num_columns = centred.shape
    if number == 0:
        return np.zeros((0, num_columns), np.float32)
    if num_rows >= num_columns:
        _, vectors = np.linalg.eigh(centred.T @ centred)  # ascending
        return vectors.T[::-1][:number].astype(np.float32)
    values, of_rows = np.linalg.eigh(centred @ centred.T)
    lasting = values[::-1][:number] > FLAT * max(values[-1], FLAT)  # rows that are alike span fewer directions
    directions = (of_rows.T[::-1][:number] @ centred)[lasting]
    found: Floats = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    return found


def alike(looks: Floats) -> npt.NDArray[np.int64]:
    """Return the sets of near duplicates among looks (N, LOOK_SIZE), (N,) int64: equal numbers are in one set."""
    if len(looks) < 2:
        return np.arange(len(looks))
    signs = looks[:, :NUM_SIGNS]
    own = Shared.of(looks).own(looks)
    least = NUM_SIGNS - 2 * MOST_BITS
    pairs = list[tuple[int, int]]()
    for start in range(0, len(looks), BLOCK):
        block = slice(start, start + BLOCK)
        close = (signs[block] @ signs[start:].T >= least) & (own[block] @ own[start:].T >= SAME)  # (B, N - start)
        rows, columns = np.nonzero(np.triu(close, 1))
        pairs += zip((rows + start).tolist(), (columns + start).tolist(), strict=True)
    return linked(len(looks), pairs)


def _look_at(path: Path) -> Floats:
    try:
        with open_image(path) as image:
            image.draft("RGB", (DRAFT_PX, DRAFT_PX))  # a JPEG is decoded at a fraction of its size
            ImageOps.exif_transpose(image, in_place=True)
            return look_of(to_rgb(image))
    except MemoryError:
        raise
    except Exception:  # what cannot be read is reported where the images are decoded
        return np.zeros(LOOK_SIZE, np.float32)
