"""The metrics of labels of whole images, by task: names -> torchmetrics' classes."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torchmetrics import Metric
from torchmetrics import classification as tm


def binary_metrics(num_classes: int, threshold: float) -> dict[str, Metric]:
    """Return the metrics of two classes, by the names of `visionsweep.core.names`."""
    common: dict[str, Any] = {"threshold": threshold, "validate_args": False}
    return {
        "accuracy": tm.BinaryAccuracy(**common),
        "precision": tm.BinaryPrecision(**common),
        "recall": tm.BinaryRecall(**common),
        "f1": tm.BinaryF1Score(**common),
        "map": tm.BinaryAveragePrecision(validate_args=False),
        "auroc": tm.BinaryAUROC(validate_args=False),
    }


def multiclass_metrics(num_classes: int, threshold: float) -> dict[str, Metric]:
    """Return the metrics of one class per image. The threshold is not used."""
    common: dict[str, Any] = {"num_classes": num_classes, "validate_args": False}
    per_average = {
        f"{name}_{average}": metric(average=average, **common)
        for average in ("micro", "macro")
        for name, metric in _PRF["multiclass"].items()
    }
    return {
        "accuracy": tm.MulticlassAccuracy(average="micro", **common),
        "top5": tm.MulticlassAccuracy(average="micro", top_k=min(5, num_classes), **common),
        "map": tm.MulticlassAveragePrecision(average=None, **common),
        "auroc": tm.MulticlassAUROC(average=None, **common),
        **per_average,
        **{name: per_average[f"{name}_macro"].clone() for name in _PRF["multiclass"]},
    }


def multilabel_metrics(num_classes: int, threshold: float) -> dict[str, Metric]:
    """Return the metrics of several labels per image."""
    ranking: dict[str, Any] = {"num_labels": num_classes, "validate_args": False}
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
        "map": tm.MultilabelAveragePrecision(average=None, **ranking),
        "auroc": tm.MultilabelAUROC(average=None, **ranking),
        **per_average,
        **per_sample,
    }


_PRF: dict[str, dict[str, Any]] = {
    "multiclass": {"precision": tm.MulticlassPrecision, "recall": tm.MulticlassRecall, "f1": tm.MulticlassF1Score},
    "multilabel": {"precision": tm.MultilabelPrecision, "recall": tm.MultilabelRecall, "f1": tm.MultilabelF1Score},
}


class _MeanOverSamples(Metric):
    """The mean of a samplewise metric, for which torchmetrics returns one value per image."""

    def __init__(self, samplewise: Metric) -> None:
        super().__init__()
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
