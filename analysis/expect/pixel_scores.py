"""Metrics of masks from pixel counts of each image, under resampled images (see `trainables/pixel_scores.py`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionsweep.core.names import CLASS_IOU

Array = NDArray[np.float64]


def mask_scores(pixels: NDArray[np.uint32], classes: Sequence[str], metric: str, counts: Array) -> Array | None:
    """Return a metric (R,) of R replicates, None for one that is not known here.

    pixels   (3, N, C): the pixels of each class that are right, there, and predicted
    classes  of the data; the metric of one class is not known where a trial merges them
    counts   (R, N), how often each image counts
    """
    right, there, said = (counts @ part.astype(np.float64) for part in pixels)  # each (R, C)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = right / (there + said - right)  # nan where a class is in neither
        recall = right / there  # nan where it is not in the truth
        total = there.sum(axis=1)
        if metric == "val/miou":
            return _mean(iou)
        if metric == "val/mean_accuracy":
            return _mean(recall)
        if metric == "val/pixel_accuracy":
            return np.asarray(right.sum(axis=1) / total)
        if metric == "val/fw_iou":
            return np.asarray(np.nansum(there / total[:, None] * iou, axis=1))
        name = metric.removeprefix(CLASS_IOU)
        if name != metric and name in classes and iou.shape[1] == len(classes):
            return np.asarray(iou[:, list(classes).index(name)])
    return None


def _mean(values: Array) -> Array:
    """Return the mean of each row over what is defined."""
    defined = np.isfinite(values)
    return np.asarray(np.where(defined, values, 0).sum(axis=1) / np.where(defined, 1, 0).sum(axis=1))
