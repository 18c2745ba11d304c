"""Kept pixel counts of a segmentation trial: its metrics under resampled images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.figures.best_trial import kept_predictions
from visionsweep.core.errors import RunError
from visionsweep.core.names import CLASS_IOU
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

Array = NDArray[np.float64]
Pixels = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class JudgedMasks:
    """Pixels of each validation image by class, at a trial's best kept epoch. Void pixels do not count.

    trial, epoch  whose predictions they are
    classes       C names, as the trial has merged them
    hits          (N, C) whole numbers, pixels that are rightly of a class
    truth         (N, C), pixels that are of it
    decided       (N, C), pixels that were predicted to be of it
    """

    trial: Trial
    epoch: int
    classes: tuple[str, ...]
    hits: Pixels
    truth: Pixels
    decided: Pixels


def judged_masks(run: Run, trial: Trial) -> JudgedMasks:
    """Return the pixel counts that a trial has kept.

    Raises RunError if there are none: runs of before 0.5 kept the predicted masks alone.
    """
    return masks_by(run, trial, *kept_predictions(run, trial, only=("pixels", "classes")))


def masks_by(run: Run, trial: Trial, epoch: int, arrays: Mapping[str, NDArray[Any]]) -> JudgedMasks:
    """Return what a trial's predictions hold as `pixels` (N, 3, C) and `classes`.

    Raises RunError if they are not of the run's images.
    """
    if not {"pixels", "classes"} <= set(arrays):
        raise RunError(f"the predictions of trial {trial.trial_id} do not count pixels.")
    counts = arrays["pixels"]
    classes = tuple(map(str, arrays["classes"]))
    num_images = len(run.search.get("data", {}).get("val", ()))
    if counts.dtype.kind not in "iu" or counts.shape != (num_images, 3, len(classes)):
        raise RunError(f"the pixels of trial {trial.trial_id} are not of the images that search.json names.")
    hits, truth, decided = counts.transpose(1, 0, 2)
    return JudgedMasks(trial, epoch, classes, hits, truth, decided)


def pixel_scores(one: JudgedMasks, metric: str, counts: Array) -> Array | None:
    """Return a metric (R,) of R replicates, None for one that is not of pixel counts, such as the loss.

    counts: (R, N), how often each image counts. The metrics are those of `trainables/pixel_scores.py`.
    """
    hits, truth, decided = (
        counts @ part.astype(np.float64) for part in (one.hits, one.truth, one.decided)
    )  # each (R, C)
    total = truth.sum(axis=1)
    name = metric.removeprefix("val/")
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = hits / (truth + decided - hits)  # NaN where a class is in neither
        recall = hits / truth
        if name == "miou":
            return _mean(iou)
        if name == "mean_accuracy":
            return _mean(recall)
        if name == "pixel_accuracy":
            return np.asarray(hits.sum(axis=1) / total)
        if name == "fw_iou":
            return np.asarray(np.nansum(truth / total[:, None] * iou, axis=1))
    of_class = metric.removeprefix(CLASS_IOU)
    if metric.startswith(CLASS_IOU) and of_class in one.classes:
        return np.asarray(iou[:, one.classes.index(of_class)])
    return None


def _mean(values: Array) -> Array:
    """Return the mean (R,) over the classes where a value is defined, NaN where none is."""
    defined = ~np.isnan(values)
    return np.asarray(np.where(defined, values, 0).sum(axis=1) / defined.sum(axis=1))
