"""The classes and labels that a configuration trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trainables.config.trial import TrialConfig
from trainables.data.loader import Labels, TrialData
from trainables.data.merge import merge_classes
from trainables.tasks import LABEL_TASKS
from visionsweep.core.tasks import task_kind


def output_classes(config: TrialConfig, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that a model of this configuration predicts, given those of the data."""
    return merge_classes(classes, config.merge).classes if task_kind(config.task).pixels else tuple(classes)


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
