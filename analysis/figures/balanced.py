"""Balanced accuracy of many draws of images, from counts of decisions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def balanced_accuracy(tp: Array, fn: Array, tn: Array, fp: Array, *, tags: bool) -> Array:
    """Return the mean recall (R,) over the classes of the truth, or over the yes and no of the tags that have both.

    tp, fn, tn, fp: (R, C). A class that was not drawn is left out of the mean. Without any class it is NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = tp / (tp + fn)  # NaN without a yes
        if tags:
            recall = (recall + tn / (tn + fp)) / 2  # NaN without a yes or a no
        defined = ~np.isnan(recall)
        return np.asarray(np.where(defined, recall, 0).sum(axis=1) / defined.sum(axis=1))
