"""Scores of kept predictions under resampled images: 95% intervals, and whether one trial leads another.

The images are resampled with replacement (Efron 1979), for two trials alike. The metrics are those of a search
(`trainables/tasks.py`), as far as they come from decisions, from a ranking, or are the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.figures.best_trial import Judged
from analysis.figures.pixels import JudgedMasks, pixel_scores
from analysis.figures.ranking import ranking
from visionsweep.core.objectives import sign_of
from visionsweep.core.tasks import task_kind

REPLICATES = 1000
NUM_HALVES = 200
LEAST_HALVED = 20  # images: a half of fewer chooses by luck
MOST_DRAWN = 2_000_000  # counts of images at once: bounds the memory
MOST_WORK = 400_000  # images times classes: beyond, resampling takes too long for a page
MOST_RANKED = 60_000_000  # images times classes, trials and replicates: about half a second of a core
FEWEST_RANKED = 200  # replicates, for the percentiles of an interval

RANKING = ("map", "auroc")  # in the order of `ranking`

Array = NDArray[np.float64]
Kept = Judged | JudgedMasks


def score(one: Kept, task: str, metric: str) -> float | None:
    """Return a metric (`val/f1`) of all images, None where kept predictions do not tell it."""
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
    for counts in _drawn(images, replicates):
        columns = [scores(one, task, metric, counts) for one in those]
        parts.append(np.stack([column for column in columns if column is not None], axis=1))
    return np.concatenate(parts)


def on_other_half(those: Sequence[Kept], task: str, metric: str, mode: str) -> float | None:
    """Return what the best of several trials gets on images that did not choose it, None as in `resampled`.

    One half of the images chooses, the other half judges, NUM_HALVES times; the result is the mean. It takes the luck
    of having been chosen out of a score (Cawley and Talbot 2010, JMLR 11).
    """
    images, classes = those[0].truth.shape
    if len(those) < 2 or images < LEAST_HALVED or images * classes > MOST_WORK:
        return None
    if metric.removeprefix("val/") in RANKING and images * classes * len(those) * NUM_HALVES > 2 * MOST_RANKED:
        return None
    rng = np.random.default_rng(0)
    halves = np.zeros((NUM_HALVES, images))
    for row in halves:
        row[rng.permutation(images)[: images // 2]] = 1
    choosing = [scores(one, task, metric, halves) for one in those]
    judging = [scores(one, task, metric, 1 - halves) for one in those]
    if any(one is None for one in (*choosing, *judging)):
        return None
    by = sign_of(mode) * np.stack([one for one in choosing if one is not None])  # (trials, NUM_HALVES)
    chosen = np.argmax(np.where(np.isnan(by), -np.inf, by), axis=0)  # the first on ties
    judged = np.stack([one for one in judging if one is not None])
    found = judged[chosen, np.arange(NUM_HALVES)]
    defined = found[np.isfinite(found)]
    return float(defined.mean()) if len(defined) else None


def scores(one: Kept, task: str, metric: str, counts: Array) -> Array | None:
    """Return a metric (R,) of R replicates, NaN where it is not defined. counts: (R, N), how often each image counts.

    None for a metric that is not kept, such as `val/top5`, or the loss of masks.
    """
    if isinstance(one, JudgedMasks):
        return pixel_scores(one, metric, counts)
    name = metric.removeprefix("val/")
    if name in RANKING:
        return _of_ranking(one, task, RANKING.index(name), counts)
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


def _of_ranking(one: Judged, task: str, place: int, counts: Array) -> Array:
    """Return the mean over the classes that can be ranked, as `trainables/tasks.py` has it."""
    ranked = one.probabilities if one.ranked is None else one.ranked
    drawn = np.ascontiguousarray(counts.T, np.float32)  # whole numbers, far below 2**24
    classes = [1] if task_kind(task).one_output else range(ranked.shape[1])
    values = np.stack([ranking(ranked[:, number], one.truth[:, number], drawn)[place] for number in classes])  # (C, R)
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0).sum(axis=0) / defined.sum(axis=0))


def _ratio(kind: str, hits: Array, said: Array, there: Array, undefined: float = 0.0) -> Array:
    part, whole = {"precision": (hits, said), "recall": (hits, there), "f1": (2 * hits, said + there)}[kind]
    return np.where(whole > 0, part / np.maximum(whole, 1e-12), undefined)


def _drawn(num_images: int, replicates: int) -> Iterator[Array]:
    rng = np.random.default_rng(0)  # a report made twice says the same
    step = max(1, MOST_DRAWN // num_images)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        yield rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=size).astype(np.float64)
