"""The metrics of labels of whole images, by task: names -> torchmetrics' classes."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor
from torchmetrics import Metric
from torchmetrics import classification as tm

# Checks cost time. One process alone judges, so its metrics do not wait for those of other ranks.
PLAIN: dict[str, Any] = {"validate_args": False, "sync_on_compute": False}


def binary_metrics(num_classes: int, threshold: float) -> dict[str, Metric]:
    """Return the metrics of two classes, by the names of `visionsweep.core.names`."""
    common: dict[str, Any] = {"threshold": threshold, **PLAIN}
    return {
        "accuracy": tm.BinaryAccuracy(**common),
        "balanced_accuracy": _BalancedAccuracy(1, threshold),
        "precision": tm.BinaryPrecision(**common),
        "recall": tm.BinaryRecall(**common),
        "f1": tm.BinaryF1Score(**common),
        "map": tm.BinaryAveragePrecision(**PLAIN),
        "auroc": tm.BinaryAUROC(**PLAIN),
    }


def multiclass_metrics(num_classes: int, threshold: float) -> dict[str, Metric]:
    """Return the metrics of one class per image. The threshold is not used."""
    common: dict[str, Any] = {"num_classes": num_classes, **PLAIN}
    per_average = {
        f"{name}_{average}": metric(average=average, **common)
        for average in ("micro", "macro")
        for name, metric in _PRF["multiclass"].items()
    }
    return {
        "accuracy": tm.MulticlassAccuracy(average="micro", **common),
        "balanced_accuracy": _BalancedAccuracy(num_classes, None),
        "top5": tm.MulticlassAccuracy(average="micro", top_k=min(5, num_classes), **common),
        "map": tm.MulticlassAveragePrecision(average=None, **common),
        "auroc": tm.MulticlassAUROC(average=None, **common),
        **per_average,
        **{name: per_average[f"{name}_macro"].clone() for name in _PRF["multiclass"]},
    }


def multilabel_metrics(num_classes: int, threshold: float) -> dict[str, Metric]:
    """Return the metrics of several labels per image."""
    ranking: dict[str, Any] = {"num_labels": num_classes, **PLAIN}
    common: dict[str, Any] = {**ranking, "threshold": threshold}
    per_average = {
        f"{name}_{average}": metric(average=average, **common)
        for average in ("micro", "macro")
        for name, metric in _PRF["multilabel"].items()
    }
    # The plain names are the samples average: per image, then the mean. 0/0 counts as one, like scikit-learn's
    # zero_division=1: an image without labels is right if none is predicted, and a false positive there costs.
    per_sample = {
        name: _MeanOverSamples(metric(average="micro", multidim_average="samplewise", zero_division=1, **common))
        for name, metric in _PRF["multilabel"].items()
    }
    return {
        "accuracy": tm.MultilabelAccuracy(average="micro", **common),
        "balanced_accuracy": _BalancedAccuracy(num_classes, threshold),
        "map": tm.MultilabelAveragePrecision(average=None, **ranking),
        "auroc": tm.MultilabelAUROC(average=None, **ranking),
        **per_average,
        **per_sample,
    }


_PRF: dict[str, dict[str, Any]] = {
    "multiclass": {"precision": tm.MulticlassPrecision, "recall": tm.MulticlassRecall, "f1": tm.MulticlassF1Score},
    "multilabel": {"precision": tm.MultilabelPrecision, "recall": tm.MultilabelRecall, "f1": tm.MultilabelF1Score},
}


class _BalancedAccuracy(Metric):
    """The mean recall of the classes that the truth has, each counting the same (Brodersen et al. 2010).

    With a threshold, of the yes and the no of each tag that has both. The one tag of two classes needs only one.
    """

    hits: Tensor  # (K,) or (K, 2), rightly decided images of a class, or of a tag's no and yes
    have: Tensor  # likewise, all images

    def __init__(self, num_outputs: int, threshold: float | None) -> None:
        super().__init__(sync_on_compute=False)
        self.threshold = threshold
        shape = (num_outputs,) if threshold is None else (num_outputs, 2)
        self.add_state("hits", torch.zeros(shape, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("have", torch.zeros(shape, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count images. preds: logits (N, K) and target (N,), or with a threshold probabilities and target (N, K)."""
        if self.threshold is None:
            truth = F.one_hot(target, preds.shape[1])
            right = truth * F.one_hot(preds.argmax(dim=1), preds.shape[1])
        else:
            yes = target.reshape(len(target), -1)
            truth = torch.stack([1 - yes, yes], dim=-1)  # (N, K, 2)
            decided = (preds.reshape(yes.shape) > self.threshold).long()
            right = truth * torch.stack([1 - decided, decided], dim=-1)
        self.hits += right.sum(dim=0)
        self.have += truth.sum(dim=0)

    def compute(self) -> Tensor:
        there = self.have > 0
        if there.ndim == 2 and len(there) > 1:
            there = there.all(dim=1, keepdim=True).expand_as(there)
        return (self.hits[there] / self.have[there]).mean()  # NaN where nothing counts


class _MeanOverSamples(Metric):
    """The mean of a samplewise metric, for which torchmetrics returns one value per image."""

    def __init__(self, samplewise: Metric) -> None:
        super().__init__(sync_on_compute=False)
        self.samplewise = samplewise

    def update(self, preds: Tensor, target: Tensor) -> None:
        # A trailing dimension of one: samplewise statistics are taken over it and the labels.
        self.samplewise.update(preds.unsqueeze(-1), target.unsqueeze(-1))
        for name in ("tp", "fp", "tn", "fn"):  # torchmetrics drops the first dimension of a batch of one
            counts = getattr(self.samplewise, name)
            counts[-1] = counts[-1].reshape(preds.shape)

    def compute(self) -> Tensor:
        return cast(Tensor, self.samplewise.compute().float().mean())

    def reset(self) -> None:
        super().reset()
        self.samplewise.reset()
