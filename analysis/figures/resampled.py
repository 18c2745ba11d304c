"""Scores of kept predictions under resampled images: 95% intervals, and whether one trial leads another.

The images are resampled with replacement (Efron 1979), for two trials alike. The metrics are those of a search
(`trainables/tasks.py`), as far as they come from decisions or are the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.figures.best_trial import Judged
from visionsweep.core.tasks import task_kind

REPLICATES = 1000
NUM_HALVES = 200
LEAST_HALVED = 20  # images: a half of fewer chooses by luck
MOST_DRAWN = 2_000_000  # counts of images at once: bounds the memory
MOST_WORK = 400_000  # images times classes: beyond, resampling takes too long for a page

Array = NDArray[np.float64]


def score(one: Judged, task: str, metric: str) -> float | None:
    """Return a metric (`val/f1`) of all images, None where it is not one of decisions, nor the loss."""
    found = scores(one, task, metric, np.ones((1, len(one.names))))
    return None if found is None else float(found[0])


def resampled(those: Sequence[Judged], task: str, metric: str) -> Array | None:
    """Return the metric (REPLICATES, trials) of trials on the same draws, None as in `score` or for very much data."""
    images, classes = those[0].truth.shape
    if images * classes > MOST_WORK or score(those[0], task, metric) is None:
        return None
    parts = []
    for counts in _drawn(images):
        columns = [scores(one, task, metric, counts) for one in those]
        parts.append(np.stack([column for column in columns if column is not None], axis=1))
    return np.concatenate(parts)


def on_other_half(those: Sequence[Judged], task: str, metric: str, mode: str) -> float | None:
    """Return what the best of several trials gets on images that did not choose it, None as in `resampled`.

    One half of the images chooses, the other half judges, NUM_HALVES times; the result is the mean. It takes the luck
    of having been chosen out of a score (Cawley and Talbot 2010, JMLR 11).
    """
    images, classes = those[0].truth.shape
    if len(those) < 2 or images < LEAST_HALVED or images * classes > MOST_WORK:
        return None
    rng = np.random.default_rng(0)
    halves = np.zeros((NUM_HALVES, images))
    for row in halves:
        row[rng.permutation(images)[: images // 2]] = 1
    choosing = [scores(one, task, metric, halves) for one in those]
    judging = [scores(one, task, metric, 1 - halves) for one in those]
    if any(one is None for one in (*choosing, *judging)):
        return None
    sign = 1 if mode == "max" else -1
    chosen = np.argmax(sign * np.stack([one for one in choosing if one is not None]), axis=0)  # the first on ties
    judged = np.stack([one for one in judging if one is not None])  # (trials, NUM_HALVES)
    return float(judged[chosen, np.arange(NUM_HALVES)].mean())


def scores(one: Judged, task: str, metric: str, counts: Array) -> Array | None:
    """Return a metric (R,) of R replicates. counts: (R, N), how often each image counts."""
    name = metric.removeprefix("val/")
    total = counts.sum(axis=1)
    truth = one.truth.astype(float)
    decided = one.decided.astype(float)
    if name == "loss":
        sure = np.where(one.truth, one.probabilities, 1 - one.probabilities).clip(1e-12, 1.0)
        losses = -np.log(sure).mean(axis=1) if task_kind(task).tags else -np.log(sure[one.truth])
        return np.asarray(counts @ losses / total)
    if name == "accuracy":
        return np.asarray(counts @ (truth == decided).all(axis=1) / total if not task_kind(task).tags else
                          counts @ (truth == decided).mean(axis=1) / total)  # fmt: skip
    if name == "balanced_accuracy":
        return _balanced(task_kind(task).tags, truth, decided, counts)
    kind, _, average = name.partition("_")
    if kind not in ("precision", "recall", "f1") or average not in ("", "micro", "macro"):
        return None
    hits = truth * decided
    if task_kind(task).tags and not average:  # the mean over the images
        by_image = _ratio(kind, hits.sum(axis=1), decided.sum(axis=1), truth.sum(axis=1), undefined=1.0)
        return np.asarray(counts @ by_image / total)
    found, said, there = (counts @ part for part in (hits, decided, truth))  # each (R, C)
    if average == "micro":
        return _ratio(kind, found.sum(axis=1), said.sum(axis=1), there.sum(axis=1))
    of_class = _ratio(kind, found, said, there)
    if task_kind(task).one_output:
        return of_class[:, 1]
    # A class that is neither there nor predicted is left out of the mean of a multiclass task.
    shown = ((said + there) > 0) if task_kind(task).softmax else np.ones_like(of_class, bool)
    return np.asarray((of_class * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1))


def _balanced(tags: bool, truth: Array, decided: Array, counts: Array) -> Array:
    """Return the mean recall (R,) over the classes of the truth, or over the yes and no of the tags that have both."""
    yes = counts @ truth  # (R, C)
    recall = counts @ (truth * decided) / np.maximum(yes, 1e-12)
    counted = yes > 0
    if tags:
        no = counts @ (1 - truth)
        recall = (recall + counts @ ((1 - truth) * (1 - decided)) / np.maximum(no, 1e-12)) / 2
        counted &= no > 0
    return np.asarray((recall * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1))


def _ratio(kind: str, hits: Array, said: Array, there: Array, undefined: float = 0.0) -> Array:
    part, whole = {"precision": (hits, said), "recall": (hits, there), "f1": (2 * hits, said + there)}[kind]
    return np.where(whole > 0, part / np.maximum(whole, 1e-12), undefined)


def _drawn(num_images: int) -> Iterator[Array]:
    rng = np.random.default_rng(0)  # a report made twice says the same
    step = max(1, MOST_DRAWN // num_images)
    for start in range(0, REPLICATES, step):
        size = min(step, REPLICATES - start)
        yield rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=size).astype(np.float64)
