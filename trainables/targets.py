"""What a configuration wants learnt of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.config import TrialConfig
from trainables.data.loader import Labels, TrialData
from trainables.data.merge import merge_classes
from trainables.tasks import LABEL_TASKS


def output_classes(config: TrialConfig, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that a model of this configuration predicts, from those that the data has."""
    return merge_classes(classes, config.merge).classes if config.task == "segmentation" else tuple(classes)


def what_to_learn(config: TrialConfig, data: TrialData) -> tuple[tuple[str, ...], Labels, np.ndarray]:
    """The C classes of the outputs; labels as `loader.batches` takes them; the training split's targets, of which
    losses count their weights. Raises ConfigError where the configuration merges classes that the data lacks."""
    dataset = data.dataset
    train_targets = dataset.targets[dataset.indices("train")]
    if config.task == "segmentation":
        merge = merge_classes(dataset.classes, config.merge)
        return merge.classes, merge, merge.counts(train_targets)
    return dataset.classes, LABEL_TASKS[config.task].encode(dataset.targets, len(dataset.classes)), train_targets
