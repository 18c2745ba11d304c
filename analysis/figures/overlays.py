"""Images of a run's data, while they are still in place: thumbnails, and masks laid over them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from analysis.figures.best_trial import kept_predictions
from analysis.models.masks import class_colours
from analysis.models.open_run_data import open_run_data
from trainables.config.io import parse_config
from trainables.data.bands import shown
from trainables.data.dataset import VOID, Dataset
from trainables.data.merge import merge_classes
from visionsweep.core.errors import DataError, RunError
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.trials import Trial

THUMBNAIL_PX = 144
OVERLAY_PX = 220
MOST_MASKS = 150  # that are read in the search for the worst
NUM_SHOWN = 6
IMAGE_ERRORS = (DataError, OSError, ValueError)


@dataclass(frozen=True, eq=False)
class RunData:
    """The data of a run. positions: of the validation images, in the order of their predictions."""

    dataset: Dataset
    positions: NDArray[np.int64]

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return a validation image (H, W, 3). Raises DataError or OSError if it cannot be read."""
        return np.asarray(self.dataset.reader(int(self.positions[row])))

    def mask(self, row: int) -> NDArray[np.uint8]:
        assert self.dataset.mask_reader is not None
        return np.asarray(self.dataset.mask_reader(int(self.positions[row])), np.uint8)

    def targets(self) -> list[Any] | None:
        """Return the targets of the validation images in the form of search.json, or None where there are masks."""
        if self.dataset.mask_reader is not None:
            return None
        chosen = self.dataset.targets[self.positions]
        return [np.flatnonzero(row).tolist() if chosen.ndim == 2 else int(row) for row in chosen]


def open_data(run: Run) -> RunData:
    """Open the data of a run. Raises DataError if it is gone, RunError if it has changed since the run."""
    # A report never fetches data, even for the user's own run. It reads images at their own size.
    dataset = open_run_data(run, THUMBNAIL_PX, only_judged=True, fetch=False).dataset
    position = {name: number for number, name in enumerate(dataset.names)}
    val = run.search["data"]["val"]
    if any(name not in position for name in val):
        raise RunError(f"the validation images that search.json names are not those of {dataset.spec}.")
    return RunData(dataset, np.array([position[name] for name in val], dtype=np.int64))


def thumbnail(image: NDArray[np.uint8], size_px: int = THUMBNAIL_PX) -> str:
    """Return the data: address of a small JPEG for an image (H, W, 3)."""
    small = Image.fromarray(shown(image))
    small.thumbnail((size_px, size_px))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


@dataclass(frozen=True)
class Scene:
    """One image of a segmentation with its true and its predicted masks, as data: addresses.

    `miou` is over the classes in this image.
    """

    name: str
    miou: float
    image: str
    truth: str
    said: str


@dataclass(frozen=True, eq=False)
class Segmented:
    """Predicted masks of a trial beside the true ones.

    classes     C names
    colours     one for each class
    matrix      (C, C) pixels, rows truth and columns prediction
    num_images  how many images the matrix covers
    scenes      examples, worst first
    """

    classes: tuple[str, ...]
    colours: list[str]
    matrix: NDArray[np.int64]
    num_images: int
    scenes: list[Scene]


def segmented(run: Run, trial: Trial, data: RunData) -> Segmented:
    """Compare a trial's kept masks with the true ones, on at most MOST_MASKS images, evenly spread.

    Raises RunError if there are none.
    """
    _, arrays = kept_predictions(run, trial)
    config = parse_config(trial.config, f"trial {trial.trial_id}")
    merge = merge_classes(value_at(run.search, "data.classes"), config.merge)
    shapes = arrays["shapes"]
    ends = np.cumsum(shapes[:, 0] * shapes[:, 1])
    if len(shapes) != len(data.positions) or ends[-1] != len(arrays["masks"]):
        raise RunError(f"the masks of trial {trial.trial_id} are not of the images that search.json names.")
    num = len(merge.classes)
    total = np.zeros((num, num), np.int64)
    found = []
    rows = np.unique(np.linspace(0, len(shapes) - 1, min(MOST_MASKS, len(shapes))).astype(int))
    for row in rows:
        height, width = shapes[row]
        predicted = arrays["masks"][ends[row] - height * width : ends[row]].reshape(height, width)
        truth = merge.table[data.mask(int(row))]
        counts = np.bincount(truth[truth != VOID].astype(int) * num + predicted[truth != VOID], minlength=num * num)
        matrix = counts.reshape(num, num)
        total += matrix
        found.append((_miou(matrix), int(row), predicted))  # without the true mask, which is large for camera images
    found.sort(key=lambda item: item[:2])
    half = NUM_SHOWN // 2
    chosen = found if len(found) <= NUM_SHOWN else [*found[:half], found[len(found) // 2], *found[-half + 1 :]]
    colours = class_colours(num)
    scenes = [
        _scene(run, data, colours, miou, row, predicted, merge.table[data.mask(row)]) for miou, row, predicted in chosen
    ]
    return Segmented(
        merge.classes, [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colours.tolist()], total, len(rows), scenes
    )


def _scene(
    run: Run, data: RunData, colours: NDArray[np.uint8], miou: float, row: int, predicted: Any, truth: Any
) -> Scene:
    # Twice the displayed size is enough: at a camera's size the sums below would take gigabytes.
    scale = min(1.0, 2 * OVERLAY_PX / max(predicted.shape))
    size = (max(1, round(predicted.shape[1] * scale)), max(1, round(predicted.shape[0] * scale)))
    predicted, truth = (cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT) for mask in (predicted, truth))
    pixels = np.asarray(Image.fromarray(shown(data.image(row))).resize(size))
    palette = np.full((256, 3), 128, np.uint8)  # void pixels are grey
    palette[: len(colours)] = colours

    def laid_over(mask: NDArray[np.uint8]) -> str:
        blend = (0.4 * pixels + 0.6 * palette[mask]).round().astype(np.uint8)
        return thumbnail(blend, OVERLAY_PX)

    name = str(run.search["data"]["val"][row])
    return Scene(name, miou, thumbnail(pixels, OVERLAY_PX), laid_over(truth), laid_over(predicted))


def _miou(matrix: NDArray[np.int64]) -> float:
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - matrix.diagonal()
    there = union > 0
    return float((matrix.diagonal()[there] / union[there]).mean()) if there.any() else 1.0


def commonest_class(run: Run, trial: Trial, data: RunData, row: int) -> str:
    """Return the class with the most pixels in a validation image's true mask, apart from the background."""
    merge = merge_classes(value_at(run.search, "data.classes"), parse_config(trial.config, "").merge)
    mask = merge.table[data.mask(row)]
    counts = np.bincount(mask[mask != VOID], minlength=len(merge.classes))
    if merge.background is not None:
        counts[merge.background] = 0
    return merge.classes[int(counts.argmax())] if counts.any() else "background"
