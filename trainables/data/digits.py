"""Real handwritten digits that need no download: scikit-learn's 1,797 scans, and scenes drawn from them.

digits               ten classes, 32 x 32 px
digits:binary        even or odd
digits:multilabel    1,000 scenes of 64 x 64 px with one to four digits: which ones are there?
digits:segmentation  the same scenes: which pixels are the ink of which digit?
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from trainables.data.scan import Scan, bytes_digest
from visionsweep.core.errors import DataError

DIGIT_PX = 32
SCENE_PX = 64
NUM_SCENES = 1000
NUM_TRAIN_SCENES = 800
MAX_DIGITS = 4
DIGIT_CLASSES = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class DigitReader:
    """Read one digit, enlarged from 8 x 8 to 32 x 32 px."""

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        grey = np.round(_enlarged(_scans()[0][index], DIGIT_PX) * 255).astype(np.uint8)  # (32, 32)
        return np.repeat(grey[:, :, None], 3, axis=2)


@dataclass(frozen=True)
class SceneReader:
    """Draws scene `index` again from its number: nothing is stored."""

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        return scene(index)[0]


@dataclass(frozen=True)
class SceneMasks:
    """Draws the mask of scene `index` again from its number."""

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        return scene(index)[2]

    def name(self, index: int) -> str:
        return f"scenes/{index:04d} (mask)"


def scan_digits() -> Scan:
    scans, labels = _scans()
    return Scan(
        classes=DIGIT_CLASSES,
        names=tuple(f"digits/{i:04d}" for i in range(len(scans))),
        targets=labels.copy(),
        given=np.full(len(scans), ""),
        digests=tuple(bytes_digest(image.tobytes()) for image in scans),
        reader=DigitReader(),
    )


def scan_even_odd() -> Scan:
    digits = scan_digits()
    return Scan(("even", "odd"), digits.names, digits.targets % 2, digits.given, digits.digests, digits.reader)


def scan_scenes() -> Scan:
    """Scan the scenes. Val scenes hold other handwriting than train scenes, so the split is part of the data."""
    drawn = [scene(i) for i in range(NUM_SCENES)]
    return Scan(
        classes=DIGIT_CLASSES,
        names=tuple(f"scenes/{i:04d}" for i in range(NUM_SCENES)),
        targets=np.stack([present for _, present, _ in drawn]),
        given=np.array(["train" if i < NUM_TRAIN_SCENES else "val" for i in range(NUM_SCENES)]),
        digests=tuple(bytes_digest(image.tobytes()) for image, _, _ in drawn),
        reader=SceneReader(),
    )


def scan_scene_masks() -> Scan:
    """The scenes of `scan_scenes`, its split included, with their masks in place of labels."""
    scenes = scan_scenes()
    classes = ("background", *DIGIT_CLASSES)
    return replace(
        scenes,
        classes=classes,
        targets=np.zeros((NUM_SCENES, len(classes)), np.int64),
        mask_reader=SceneMasks(),
        mask_digests=tuple(bytes_digest(scene(i)[2].tobytes()) for i in range(NUM_SCENES)),
    )


def scene(index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return scene `index` of the data set, as `draw_scene` returns it.

    Train scenes use the first four fifths of the scans, val scenes the last fifth. So a model gains nothing from
    memorizing single scans.
    """
    border = len(_scans()[0]) * 4 // 5
    pool = np.arange(border) if index < NUM_TRAIN_SCENES else np.arange(border, len(_scans()[0]))
    return draw_scene(np.random.default_rng(index), pool)


def draw_scene(
    rng: np.random.Generator, pool: npt.NDArray[np.int64] | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw one to four real digits at random places, without overlap: `(image, present, mask)`.

        image    (64, 64, 3) uint8
        present  (10,) uint8: 1 for each digit that is there
        mask     (64, 64) uint8: 0 background, 1 + digit on its ink

    `pool` holds the positions of the scans to draw from (default: all of them).
    """
    scans, labels = _scans()
    pool = np.arange(len(scans)) if pool is None else pool
    noise = rng.normal(0, 8, (SCENE_PX, SCENE_PX, 1))
    canvas = rng.uniform(0, 70, 3) + noise  # (64, 64, 3), dark
    present = np.zeros(10, np.uint8)
    mask = np.zeros((SCENE_PX, SCENE_PX), np.uint8)
    cell = SCENE_PX // 2  # each digit gets a quarter of the scene to itself, so none hides another
    for quarter in rng.permutation(4)[: rng.integers(1, MAX_DIGITS + 1)]:
        position = int(rng.choice(pool))
        side = int(rng.integers(20, cell + 1))
        top = quarter // 2 * cell + int(rng.integers(0, cell - side + 1))
        left = quarter % 2 * cell + int(rng.integers(0, cell - side + 1))
        ink = _enlarged(scans[position], side)  # (side, side), 0 to 1
        place = np.s_[top : top + side, left : left + side]
        canvas[place] += (rng.uniform(140, 255, 3) - canvas[place]) * ink[:, :, None]
        mask[place][ink > 0.4] = 1 + labels[position]
        present[labels[position]] = 1
    return canvas.clip(0, 255).astype(np.uint8), present, mask


def _enlarged(scan: npt.NDArray[np.float32], side_px: int) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.resize(scan, (side_px, side_px), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


@lru_cache(maxsize=1)
def _scans() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the scans, (1797, 8, 8) float32 from 0 to 1, and their labels, (1797,)."""
    # scikit-learn's reader would import all of it and half of SciPy, which takes longer than a trial's epoch.
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("digits are scikit-learn's, which is not installed. Install it: pip install scikit-learn.")
    table = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    rows = np.loadtxt(table, delimiter=",", dtype=np.float32)  # (1797, 65): 64 pixels from 0 to 16, and the label
    return (rows[:, :-1].reshape(-1, 8, 8) / 16).astype(np.float32), rows[:, -1].astype(np.int64)
