"""Average precision and area under the ROC curve of resampled images: means over the classes where they are defined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.figures.best_trial import Judged

RANKINGS = ("map", "auroc")

Array = NDArray[np.float64]
Counts = NDArray[np.float32]  # exact for whole numbers up to 16 million


def ranking_score(one: Judged, task: str, name: str, counts: Array) -> Array:
    """Return `map` or `auroc` (R,) of R replicates, NaN where no class has both kinds of images.

    counts: (R, N), how often each image counts
    """
    rows = np.ascontiguousarray(counts.T, np.float32)  # (N, R): images are put in order as whole rows
    of_class = _average_precision if name == "map" else _area
    classes = range(1, 2) if task == "binary" else range(len(one.classes))
    found = np.stack([of_class(one.probabilities[:, i], one.truth[:, i], rows) for i in classes])  # (C, R)
    defined = np.isfinite(found)
    with np.errstate(invalid="ignore", divide="ignore"):
        num_defined = np.where(defined.any(axis=0), defined.sum(axis=0), np.nan)
        return np.asarray(np.where(defined, found, 0).sum(axis=0) / num_defined)


def _average_precision(scores: Array, truth: NDArray[np.bool_], rows: Counts) -> Array:
    """Return the sum of the precisions at each positive, over the positives. Equal scores are passed at once."""
    order, ends = _order(scores)
    there = np.flatnonzero(np.add.reduceat(truth[order], _starts(ends)))  # runs of equal scores with a positive
    if not len(there):
        return np.full(rows.shape[1], np.nan)
    last = ends[there]
    passed = rows[order[: last[-1] + 1]]
    all_passed = np.cumsum(np.add.reduceat(passed, _starts(last), axis=0), axis=0)  # (P, R)
    positive = order[truth[order]]
    number = np.searchsorted(last, np.flatnonzero(truth[order]))  # the run of each positive
    new = np.add.reduceat(rows[positive], np.flatnonzero(np.diff(number, prepend=-1)), axis=0)  # (P, R)
    found = np.cumsum(new, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = (new * (found / np.maximum(all_passed, 1))).sum(axis=0) / found[-1]
    return _defined(value, found[-1], rows)


def _area(scores: Array, truth: NDArray[np.bool_], rows: Counts) -> Array:
    """Return the share of pairs of a positive and a negative in the right order, equal scores counted half."""
    order, ends = _order(scores)
    ordered = rows[order]
    positives = np.add.reduceat(ordered * truth[order][:, None], _starts(ends), axis=0)  # (T, R) of each run
    negatives = np.add.reduceat(ordered, _starts(ends), axis=0) - positives
    above = np.cumsum(positives, axis=0) - positives / 2
    all_positives = positives.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = (negatives * above).sum(axis=0, dtype=np.float64) / (all_positives * negatives.sum(axis=0))
    return _defined(value, all_positives, rows)


def _order(scores: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the images by falling score, and the last place of each run of equal scores."""
    order = np.argsort(-scores, kind="stable")
    return order, np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))


def _starts(ends: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], ends[:-1] + 1])


def _defined(value: Array, positives: Counts, rows: Counts) -> Array:
    one_sided = (positives == 0) | (positives == rows.sum(axis=0))
    return np.where(one_sided, np.nan, value.astype(np.float64))
