"""Scores of kept predictions under resampled images: 95% intervals, and whether one trial leads another.

The images are resampled with replacement (Efron 1979), for two trials alike. A replicate is how often each image
counts, so that a metric of all replicates takes a few matrix products. The metrics are those of a search
(`trainables/tasks.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.figures.balanced import balanced_accuracy
from analysis.figures.best_trial import Judged
from analysis.figures.pixels import JudgedMasks, pixel_scores
from analysis.figures.ranking import ranking
from visionsweep.core.tasks import task_kind

REPLICATES = 1000
MOST_DRAWN = 2_000_000  # counts of images at once: bounds the memory
MOST_WORK = 400_000  # images times classes: beyond, resampling takes too long for a page
MOST_RANKED = 60_000_000  # images times classes, trials and replicates: about half a second of a core
FEWEST_RANKED = 200  # replicates, for the percentiles of an interval

RANKING = ("map", "auroc")  # in the order of `ranking`

Array = NDArray[np.float64]
Kept = Judged | JudgedMasks


def score(one: Kept, task: str, metric: str) -> float | None:
    """Return a metric (`val/f1`) of all images, None where it is not known here, or not defined."""
    found = scores(one, task, metric, np.ones((1, len(one.truth))))
    return None if found is None or not np.isfinite(found[0]) else float(found[0])


def resampled(those: Sequence[Kept], task: str, metric: str) -> Array | None:
    """Return the metric (R, trials) of trials on the same draws, None as in `score` or for very much data.

    R is REPLICATES, and less for a ranking of many images.
    """
    images, classes = those[0].truth.shape
    replicates = REPLICATES
    if metric.removeprefix("val/") in RANKING:  # each replicate ranks all images anew for each class
        images_ranked = images * classes * len(those)
        replicates = min(REPLICATES, max(FEWEST_RANKED, MOST_RANKED // images_ranked))
        if images_ranked * replicates > 2 * MOST_RANKED:
            return None
    if images * classes > MOST_WORK or score(those[0], task, metric) is None:
        return None
    parts = []
    for counts in drawn(images, replicates):
        columns = [scores(one, task, metric, counts) for one in those]
        parts.append(np.stack([column for column in columns if column is not None], axis=1))
    return np.concatenate(parts)


def scores(one: Kept, task: str, metric: str, counts: Array) -> Array | None:
    """Return a metric (R,) of R replicates, NaN where it is not defined. counts: (R, N), how often each image counts.

    None for one that is not known here, such as the loss of masks.
    """
    if isinstance(one, JudgedMasks):
        return pixel_scores(one, metric, counts)
    of_images = by_image(one, task, metric)
    if of_images is not None:
        return np.asarray(counts @ of_images / counts.sum(axis=1))
    name = metric.removeprefix("val/")
    if name in RANKING:
        return _of_ranking(one, task, name, counts)
    kind, _, average = name.partition("_")
    truth = one.truth.astype(float)
    decided = one.decided.astype(float)
    hits = truth * decided
    found, said, there = (counts @ part for part in (hits, decided, truth))  # each (R, C)
    if name == "balanced_accuracy":
        missed, wrong = there - found, said - found
        right = counts.sum(axis=1)[:, None] - found - missed - wrong
        return balanced_accuracy(found, missed, right, wrong, tags=task_kind(task).tags)
    if kind not in ("precision", "recall", "f1") or average not in ("", "micro", "macro"):
        return None
    if average == "micro":
        return _ratio(kind, found.sum(axis=1), said.sum(axis=1), there.sum(axis=1))
    of_class = _ratio(kind, found, said, there)
    if task_kind(task).one_output:
        return of_class[:, 1]
    # A class that is neither there nor predicted is left out of the mean of a multiclass task.
    shown = ((said + there) > 0) if task_kind(task).softmax else np.ones_like(of_class, bool)
    shown = there > 0 if average == "there" else shown
    return np.asarray((of_class * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1))


def _of_ranking(one: Judged, task: str, name: str, counts: Array) -> Array:
    """Return the mean over the classes that can be ranked, as `trainables/tasks.py` has it."""
    ranked = one.probabilities if one.ranked is None else one.ranked
    rows = np.ascontiguousarray(counts.T, np.float32)  # (N, R) whole numbers, far below 2**24
    classes = [1] if task_kind(task).one_output else range(ranked.shape[1])
    place = RANKING.index(name)
    values = np.stack([ranking(ranked[:, number], one.truth[:, number], rows)[place] for number in classes])  # (C, R)
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0).sum(axis=0) / defined.sum(axis=0))


def by_image(one: Kept, task: str, metric: str) -> Array | None:
    """Return a metric's value (N,) of each image, None for a metric that is not their mean."""
    if isinstance(one, JudgedMasks):
        return None
    name = metric.removeprefix("val/")
    if name == "loss":
        sure = np.where(one.truth, one.probabilities, 1 - one.probabilities).clip(1e-12, 1.0)
        return -np.log(sure).mean(axis=1) if task_kind(task).tags else np.asarray(-np.log(sure[one.truth]))
    if name == "accuracy":
        same = one.truth == one.decided
        return np.asarray(same.mean(axis=1) if task_kind(task).tags else same.all(axis=1).astype(float))
    if name == "top5" and task_kind(task).softmax:
        likeliest = np.argsort(-one.probabilities, axis=1, kind="stable")[:, :5]
        return np.asarray(np.take_along_axis(one.truth, likeliest, axis=1).any(axis=1).astype(float))
    if task_kind(task).tags and name in ("precision", "recall", "f1"):
        hits = (one.truth & one.decided).sum(axis=1).astype(float)
        return _ratio(name, hits, one.decided.sum(axis=1).astype(float), one.truth.sum(axis=1).astype(float), 1.0)
    return None


def _ratio(kind: str, hits: Array, said: Array, there: Array, undefined: float = 0.0) -> Array:
    part, whole = {"precision": (hits, said), "recall": (hits, there), "f1": (2 * hits, said + there)}[kind]
    return np.where(whole > 0, part / np.maximum(whole, 1e-12), undefined)


def drawn(num_images: int, replicates: int = REPLICATES, groups: NDArray[np.int64] | None = None) -> Iterator[Array]:
    """Yield counts (R, N) in parts: how often each image was drawn.

    groups: (N,) numbers from 0, whose images are drawn together; None draws each alone
    """
    rng = np.random.default_rng(0)  # a report made twice says the same
    num = num_images if groups is None else int(groups.max()) + 1
    step = max(1, MOST_DRAWN // num_images)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        counts = rng.multinomial(num, np.full(num, 1 / num), size=size).astype(np.float64)
        yield counts if groups is None else counts[:, groups]
