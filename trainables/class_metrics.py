"""The check that a metric of one class has a class to speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trainables.data.dataset import Dataset
from trainables.data.merge import merge_classes
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import CLASS_IOU, did_you_mean
from visionsweep.core.tasks import task_kind


def check_class_metrics(dataset: Dataset, merge: Mapping[str, Sequence[str]], **metrics: Iterable[str | None]) -> None:
    """Raise ConfigError if a `val/iou/CLASS` metric names a class that the merged data or the validation masks lack.

    The keywords `metrics` are the configuration's names for them. Found here, the error costs no training.
    """
    if not task_kind(dataset.task).pixels:
        return
    merged = merge_classes(dataset.classes, merge)
    val_pixels = merged.counts(dataset.targets[dataset.indices("val")]).sum(axis=0)  # (C,)
    for kind, names in metrics.items():
        for metric in names:
            if metric is None or not metric.startswith(CLASS_IOU):
                continue
            name = metric.removeprefix(CLASS_IOU)
            if name not in merged.classes:
                raise ConfigError(
                    f"{kind} '{metric}': the data has no class '{name}'. {did_you_mean(name, merged.classes)}"
                )
            if not val_pixels[merged.classes.index(name)]:
                shown = [one for one, count in zip(merged.classes, val_pixels, strict=True) if count]
                raise ConfigError(
                    f"{kind} '{metric}': no validation mask has a pixel of class '{name}', so that its IoU says "
                    f"nothing. Take the IoU of another class ({', '.join(shown[:20])}) or val/miou, or move images."
                )
