"""Metrics of a ranking under resampled images: average precision and the area under the ROC curve, by numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionsweep.core.tasks import task_kind

Array = NDArray[np.float64]


def ranking(scores: Array, truth: NDArray[np.generic], drawn: NDArray[Any]) -> tuple[Array, Array]:
    """Return average precision and area under the ROC curve of one class, each (R,), for R replicates.

        scores  (N,), what ranks the images; equal ones are passed at once
        truth   (N,), whether an image has the class
        drawn   (N, R), how often each image counts in a replicate

    NaN where all images are positive, or none.
    """
    # Groups of equal scores, best first. Only those with a positive image change either metric.
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    places = np.flatnonzero(truth[order])
    if not len(places):
        return np.full(drawn.shape[1], np.nan), np.full(drawn.shape[1], np.nan)
    groups, firsts = np.unique(np.searchsorted(ends, places), return_index=True)
    passed = drawn[order].cumsum(axis=0)  # (N, R) images at or above each one
    # Positives in each group and down to its end, and all images down to its end and before it. Each (G, R).
    new = np.add.reduceat(drawn[order[places]], firsts, axis=0)
    found = new.cumsum(axis=0)
    down_to = passed[ends[groups]]
    before = np.where((groups > 0)[:, None], passed[ends[groups - 1]], 0)
    # Negatives below a group, and in it.
    num_positive = found[-1]
    num_negative = passed[-1] - num_positive
    below = num_negative - (down_to - found)
    beside = down_to - before - new
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = found / np.maximum(down_to, 1)
        average_precision = (precision * new).sum(axis=0) / num_positive
        area = (new * (below + beside / 2)).sum(axis=0) / (num_positive * num_negative)
    one_sided = (num_positive == 0) | (num_negative == 0)
    return np.where(one_sided, np.nan, average_precision), np.where(one_sided, np.nan, area)


def log_odds(logits: Array, task: str) -> Array:
    """Return what ranks the images of each class, (N, C): log p / (1 - p), which does not saturate.

        logits  (N, K), as a run keeps them

    A binary task gets both of its classes. `trainables/ranking.py` ranks a search's own scores by the same.
    """
    if task_kind(task).one_output:
        return np.concatenate([-logits, logits], axis=1)
    if not task_kind(task).softmax:
        return logits
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    rows = np.arange(len(logits))
    top = logits.argmax(axis=1)
    others = logits.copy()
    others[rows, top] = -np.inf
    with np.errstate(divide="ignore"):
        odds = log_p - np.log1p(-np.exp(log_p))
    odds[rows, top] = logits[rows, top] - np.logaddexp.reduce(others, axis=1)
    return odds
