"""The classes and labels that a configuration trains on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from trainables.config.trial import TrialConfig
from trainables.data.dataset import Dataset
from trainables.data.loader import Labels, TrialData
from trainables.data.merge import merge_classes
from trainables.tasks import LABEL_TASKS
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import CLASS_IOU, did_you_mean
from visionsweep.core.tasks import task_kind


def output_classes(config: TrialConfig, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that a model of this configuration predicts, given those of the data."""
    return merge_classes(classes, config.merge).classes if task_kind(config.task).pixels else tuple(classes)


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


def classes_and_labels(config: TrialConfig, data: TrialData) -> tuple[tuple[str, ...], Labels, np.ndarray]:
    """Return the classes of the outputs, the labels and the training split's targets.

    The labels are those that `loader.batches` takes. Losses count their class weights on the targets.
    Raises ConfigError if the configuration merges classes that the data lacks.
    """
    dataset = data.dataset
    train_targets = dataset.targets[dataset.indices("train")]
    if task_kind(config.task).pixels:
        merge = merge_classes(dataset.classes, config.merge)
        of_masks = merge if dataset.numbers is None else replace(merge, table=merge.table[dataset.numbers])
        return merge.classes, of_masks, merge.counts(train_targets)
    return dataset.classes, LABEL_TASKS[config.task].encode(dataset.targets, len(dataset.classes)), train_targets
