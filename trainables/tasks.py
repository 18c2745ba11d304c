"""The differences between tasks: outputs, targets, probabilities, the plain loss, the metrics.

The loop works on two shapes only, logits (B, K) and targets (B, K) float, for any task.

    task        K   targets                         decision
    binary      1   1 for the second class          sigmoid > threshold
    multiclass  C   one-hot, soft after mixup       argmax
    multilabel  C   multi-hot                       sigmoid > threshold, per class

Segmentation has logits (B, C, H, W) and masks (B, H, W) instead. Its metrics are in `pixel_scores.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from trainables.device import exact_place
from trainables.label_metrics import binary_metrics, multiclass_metrics, multilabel_metrics
from trainables.ranking import log_odds, ranks
from visionsweep.core.tasks import task_kind


@dataclass(frozen=True)
class Task:
    """The interpretation of a task's outputs. Every function is pure."""

    num_outputs: Callable[[int], int]  # number of classes -> K
    probabilities: Callable[[Tensor], Tensor]  # logits (B, K, ...) -> (B, K, ...) in [0, 1]
    to_logits: Callable[[Tensor], Tensor]  # back: logits with these probabilities
    likelihoods: Callable[[Tensor], Tensor]  # logits -> what is averaged over models, exact where float32 saturates
    from_likelihoods: Callable[[Tensor], Tensor]  # back: logits, float32, from a sum of likelihoods or their mean


@dataclass(frozen=True)
class LabelTask:
    """The encoding and the metrics of labels of whole images. Every function is pure."""

    encode: Callable[[np.ndarray, int], Tensor]  # stored targets, number of classes -> (N, K) float
    plain_loss: Callable[[Tensor, Tensor], Tensor]  # loss without a trial's weights and smoothing, equal for all trials
    metrics: Callable[[int, float], dict[str, Metric]]  # number of classes, threshold -> by name
    metric_target: Callable[[Tensor], Tensor]  # (B, K) float -> what torchmetrics wants


def _one_hot(targets: np.ndarray, num_classes: int) -> Tensor:
    return F.one_hot(torch.as_tensor(targets, dtype=torch.int64), num_classes).float()


def _log(probabilities: Tensor) -> Tensor:
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _both_sides(logits: Tensor) -> Tensor:
    """Return (2, B, K) float64, the probabilities of yes and of no.

    One minus yes would round no away near 1.
    """
    exact = logits.double()
    return torch.stack([exact.sigmoid(), (-exact).sigmoid()])


def _log_odds(likelihoods: Tensor) -> Tensor:
    return (_log(likelihoods[0]) - _log(likelihoods[1])).float()


_SIGMOID: dict[str, Callable[[Tensor], Tensor]] = {
    "probabilities": torch.sigmoid,
    "to_logits": torch.logit,
    "likelihoods": _both_sides,
    "from_likelihoods": _log_odds,
}
_SOFTMAX: dict[str, Callable[[Tensor], Tensor]] = {
    "probabilities": _softmax,
    "to_logits": _log,
    "likelihoods": lambda logits: logits.double().softmax(dim=1),
    "from_likelihoods": lambda likelihoods: _log(likelihoods).float(),
}
# Pixels are classified but not ranked. float32 is precise enough and takes half the memory.
_PIXELS = {**_SOFTMAX, "likelihoods": _softmax}

TASKS: dict[str, Task] = {
    "binary": Task(num_outputs=lambda num_classes: 1, **_SIGMOID),
    "multiclass": Task(num_outputs=lambda num_classes: num_classes, **_SOFTMAX),
    "multilabel": Task(num_outputs=lambda num_classes: num_classes, **_SIGMOID),
    "segmentation": Task(num_outputs=lambda num_classes: num_classes, **_PIXELS),
}

LABEL_TASKS: dict[str, LabelTask] = {
    "binary": LabelTask(
        encode=lambda targets, num_classes: torch.as_tensor(targets, dtype=torch.float32).unsqueeze(1),
        plain_loss=F.binary_cross_entropy_with_logits,
        metrics=binary_metrics,
        metric_target=lambda target: target.long(),
    ),
    "multiclass": LabelTask(
        encode=_one_hot,
        plain_loss=F.cross_entropy,
        metrics=multiclass_metrics,
        metric_target=lambda target: target.argmax(dim=1),
    ),
    "multilabel": LabelTask(
        encode=lambda targets, num_classes: torch.as_tensor(targets, dtype=torch.float32),
        plain_loss=F.binary_cross_entropy_with_logits,
        metrics=multilabel_metrics,
        metric_target=lambda target: target.long(),
    ),
}


def mean_logits(task_name: str, logits: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Return the logits (B, K, ...) of the models' weighted mean probability. None weighs all models alike.

    No probability saturates on the way, so that confident models keep their order.
    """
    task = TASKS[task_name]
    place = logits[0].device
    shares = [1.0] * len(logits) if weights is None else weights
    # Added up one by one: the stacked maps of M models would take M times the memory.
    exact = exact_place(place)
    total = sum(share * task.likelihoods(one.to(exact)) for share, one in zip(shares, logits, strict=True))
    return task.from_likelihoods(cast(Tensor, total) / sum(shares)).to(place)


def score(
    task_name: str, logits: Tensor, targets: Tensor, num_classes: int, threshold: float, only: str | None = None
) -> dict[str, float]:
    """Return every metric of the task over the whole split, as fractions of one, and the plain loss.

    logits, targets  (N, K) float32 on one device
    threshold        of a probability, for binary and multilabel decisions
    only             the one metric to compute beside the loss, for many comparisons; None computes all

    Metrics that are not defined on this split, such as those without any positive, are left out.
    """
    labels = LABEL_TASKS[task_name]
    logits = logits.to(exact_place(logits.device))
    targets = targets.to(logits.device)
    wanted = labels.metric_target(targets)
    # Logits rank the classes of an image even where a probability rounds to one.
    decided_by = logits if task_kind(task_name).softmax else TASKS[task_name].probabilities(logits)
    # Classes with both positives and negatives. Ranking metrics are undefined for the others, and torchmetrics' own
    # macro average would count them as zero.
    ranked = (targets > 0.5).any(dim=0) & (targets <= 0.5).any(dim=0)
    asked = labels.metrics(num_classes, threshold) if only is None else _one(task_name, num_classes, threshold, only)
    ranking = {name: metric for name, metric in asked.items() if name in _RANKING}
    deciding = {name: metric for name, metric in asked.items() if name not in _RANKING}
    with warnings.catch_warnings():
        # torchmetrics would warn at every epoch about a class that the validation split lacks.
        warnings.filterwarnings("ignore", message=".*(No positive|No negative|no positive|Average precision score).*")
        found = _computed(deciding, decided_by, wanted)
        if ranking:
            found |= _computed(ranking, ranks(log_odds(task_name, logits)), wanted)
    values = {name: float(value[ranked].mean() if value.ndim else value) for name, value in found.items()}
    if not ranked.any():  # torchmetrics calls it zero for two classes
        values = {name: value for name, value in values.items() if name not in _RANKING}
    values["loss"] = float(labels.plain_loss(logits, targets))
    return {name: value for name, value in values.items() if math.isfinite(value) or name == "loss"}


@lru_cache(maxsize=64)
def _one(task_name: str, num_classes: int, threshold: float, name: str) -> dict[str, Metric]:
    """Return one metric by its name, {} for the loss.

    It is cached: making a metric takes longer than computing it. Ensemble selection computes thousands.
    """
    metrics = LABEL_TASKS[task_name].metrics(num_classes, threshold)
    return {name: metrics[name]} if name in metrics else {}


def _computed(metrics: Mapping[str, Metric], predicted: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    if not metrics:
        return {}
    if len(metrics) == 1:
        ((name, metric),) = metrics.items()
        metric.to(predicted.device).reset()
        metric.update(predicted, wanted)
        return {name: metric.compute()}
    # A collection shares the counts among precision, recall and F1.
    collection = MetricCollection(dict(metrics)).to(predicted.device)
    collection.update(predicted, wanted)
    return cast(dict[str, Tensor], collection.compute())


_RANKING = ("map", "auroc")
