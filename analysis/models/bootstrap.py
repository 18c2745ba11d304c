"""Uncertainty of a score: 95% intervals over the images of a split.

The images are resampled with replacement (Efron 1979) a thousand times, and every metric is computed each time. Its
interval reaches from the 2.5th to the 97.5th percentile. A replicate is stored as how often each image counts, so a
metric of all replicates takes a few matrix products. The metrics are those of `trainables.tasks.score` and
`pixel_scores.scores_of`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from analysis.figures.balanced import balanced_accuracy
from analysis.figures.ranking import ranking
from trainables.pixel_scores import scores_of
from trainables.ranking import log_odds
from trainables.tasks import LABEL_TASKS, TASKS
from visionsweep.core.tasks import task_kind

REPLICATES = 1000
MOST_DRAWN = 2_000_000  # counts of images at once: bounds the memory
Array = npt.NDArray[np.float64]
Interval = tuple[float, float]
BY_COUNTS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Intervals:
    """Intervals of metrics. What no replicate defines is left out.

    metrics  by name without `val/`
    classes  by class, then by metric
    """

    metrics: dict[str, Interval]
    classes: dict[str, dict[str, Interval]]


def wilson(share: float, count: int, z: float = 1.959964) -> Interval:
    """Return the 95% interval of a share of `count` images (Wilson 1927), where only these two are known."""
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def label_intervals(
    task: str, logits: Tensor, targets: Tensor, classes: Sequence[str], threshold: float, seed: int = 0
) -> Intervals:
    """Return the intervals of a classifier. logits, targets: (N, K) float, as in `score`."""
    drawn = [label_scores(task, logits, targets, threshold, counts) for counts in _drawn(len(logits), REPLICATES, seed)]
    metrics = {name: _interval(np.concatenate([part[0][name] for part in drawn])) for name in drawn[0][0]}
    per_class = {name: np.concatenate([part[1][name] for part in drawn]) for name in drawn[0][1]}  # (R, C)
    return Intervals(
        {name: interval for name, interval in metrics.items() if interval},
        {
            one: {name: found for name, values in per_class.items() if (found := _interval(values[:, i]))}
            for i, one in enumerate(classes)
        },
    )


def label_scores(
    task: str, logits: Tensor, targets: Tensor, threshold: float, counts: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return metrics (R,) and metrics of each class (R, C), for R replicates.

    `counts` (R, N) is how often each image counts. With ones, the result is that of `score`.
    """
    # Counts of true and false decisions in each replicate are matrix products.
    truth, decided, ranked = _as_columns(task, logits, targets, threshold)
    # each (N, C)
    hits = truth * decided
    wrong = (1 - truth) * decided
    missed = truth * (1 - decided)
    tp, fp, fn = (counts @ part for part in (hits, wrong, missed))  # each (R, C)
    per_class = _from_counts(tp, fp, fn)
    # Metrics of decisions, averaged as each task defines them.
    total = counts.sum(axis=1)
    metrics: dict[str, Array] = {"loss": counts @ _losses(task, logits, targets) / total}
    micro = _from_counts(tp.sum(axis=1), fp.sum(axis=1), fn.sum(axis=1))
    if task_kind(task).softmax:
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices
        in_top = targets.gather(1, top).sum(dim=1).double().numpy()
        shown = (tp + fp + fn) > 0  # torchmetrics leaves a class out of the mean that is neither there nor predicted
        macro = {name: (values * shown).sum(axis=1) / shown.sum(axis=1) for name, values in per_class.items()}
        metrics |= {"accuracy": tp.sum(axis=1) / total, "top5": counts @ in_top / total, **macro}
    elif task_kind(task).tags:
        macro = {name: values.mean(axis=1) for name, values in per_class.items()}
        predicted = decided.sum(axis=1)
        there = truth.sum(axis=1)
        found = hits.sum(axis=1)  # each (N,)
        by_image = _from_counts(found, predicted - found, there - found, undefined=1.0)
        right = (truth == decided).mean(axis=1)
        metrics["accuracy"] = counts @ right / total
        metrics |= {name: counts @ values / total for name, values in by_image.items()}
    else:
        metrics |= {"accuracy": tp.sum(axis=1) / total, **{name: per_class[name][:, 1] for name in BY_COUNTS}}
    if not task_kind(task).one_output:
        metrics |= {f"{name}_micro": values for name, values in micro.items()}
        metrics |= {f"{name}_macro": values for name, values in macro.items()}
    tn = total[:, None] - tp - fp - fn
    metrics["balanced_accuracy"] = balanced_accuracy(tp, fn, tn, fp, tags=task_kind(task).tags)
    # Metrics of the ranking: the mean over the classes where they are defined.
    positive = slice(1, 2) if task_kind(task).one_output else slice(None)
    drawn = np.ascontiguousarray(counts.T)
    curves = [ranking(scores, of, drawn) for scores, of in zip(ranked.T[positive], truth.T[positive], strict=True)]
    for place, name in enumerate(("map", "auroc")):
        values = np.stack([curve[place] for curve in curves], axis=1)  # (R, C), nan where all or none are positive
        defined = ~np.isnan(values)
        with np.errstate(invalid="ignore"):  # nan where no class is defined
            metrics[name] = np.where(defined, values, 0).sum(axis=1) / np.where(
                defined.any(axis=1), defined.sum(1), np.nan
            )
    return metrics, per_class


def mask_intervals(confusions: npt.NDArray[np.int64], classes: Sequence[str], seed: int = 0) -> Intervals:
    """Return the intervals of a segmenter. confusions: (N, C, C) of each image, rows truth and columns prediction."""
    flat = confusions.reshape(len(confusions), -1).astype(np.float64)
    found: dict[str, list[float]] = {}
    for counts in _drawn(len(flat), REPLICATES, seed):
        for matrix in torch.from_numpy(counts @ flat).view(-1, len(classes), len(classes)):
            for name, value in scores_of(matrix, classes).items():
                found.setdefault(name, []).append(value)
    found.pop("num_classes_iou", None)
    intervals = {name: _interval(np.array(values)) for name, values in found.items()}
    metrics = {name: interval for name, interval in intervals.items() if interval}
    per_class = {one: {"iou": metrics.pop(f"iou/{one}")} for one in classes if f"iou/{one}" in metrics}
    return Intervals(metrics, per_class)


def confusion_of(
    truth: npt.NDArray[np.uint8], decided: npt.NDArray[np.uint8], num_classes: int
) -> npt.NDArray[np.int64]:
    """Return the confusion (C, C) of one image's masks (H, W). Void pixels of the truth do not count."""
    judged = truth < num_classes
    pairs = truth[judged].astype(np.int64) * num_classes + decided[judged]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def estimates(values: Mapping[str, float], intervals: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    """Return value and, where known, low and high of each metric."""
    return {
        name: {
            "value": value,
            **(dict(zip(("low", "high"), intervals[name], strict=True)) if name in intervals else {}),
        }
        for name, value in values.items()
    }


def _drawn(num_images: int, replicates: int, seed: int) -> Iterator[Array]:
    """Yield counts (R, N) in parts: how often each image was drawn."""
    generator = np.random.default_rng(seed)
    step = max(1, MOST_DRAWN // num_images)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        yield generator.multinomial(num_images, np.full(num_images, 1 / num_images), size=size).astype(np.float64)


def _as_columns(task: str, logits: Tensor, targets: Tensor, threshold: float) -> tuple[Array, Array, Array]:
    """Return truth and decision (N, C) of 0 and 1, and the scores that rank images. Binary tasks get both classes."""
    if task_kind(task).softmax:
        decided = F.one_hot(logits.argmax(dim=1), logits.shape[1])
    else:
        decided = (TASKS[task].probabilities(logits) > threshold).long()
    truth = (targets > 0.5).long()
    ranked = log_odds(task, logits)
    if task_kind(task).one_output:
        truth = torch.cat([1 - truth, truth], dim=1)
        decided = torch.cat([1 - decided, decided], dim=1)
        ranked = torch.cat([-ranked, ranked], dim=1)
    return truth.double().numpy(), decided.double().numpy(), ranked.numpy()


def _losses(task: str, logits: Tensor, targets: Tensor) -> Array:
    """Return the plain loss (N,) of each image."""
    plain = LABEL_TASKS[task].plain_loss
    return np.array([float(plain(logits[i : i + 1], targets[i : i + 1])) for i in range(len(logits))])


def _from_counts(tp: Array, fp: Array, fn: Array, undefined: float = 0.0) -> dict[str, Array]:
    """Return precision, recall and F1. `undefined` stands for 0/0, like scikit-learn's zero_division."""
    over = {"precision": (tp, tp + fp), "recall": (tp, tp + fn), "f1": (2 * tp, 2 * tp + fp + fn)}
    return {name: np.where(whole > 0, part / np.maximum(whole, 1), undefined) for name, (part, whole) in over.items()}


def _interval(values: Array) -> Interval | None:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = np.percentile(finite, (2.5, 97.5))
    return float(low), float(high)
