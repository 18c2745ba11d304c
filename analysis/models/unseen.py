"""Predictions of all training and validation images by heads that have not seen them.

The head is solved on features that are kept once per machine, in five folds, by logistic regression. The features are
those of a configuration's backbone before it is trained: a backbone that has learned the labels may have learned the
wrong ones too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from trainables.config.model import ClassifierConfig
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.features.features import FrozenBackbone
from trainables.features.solved_head import solve_head
from trainables.models.build import build_model
from trainables.models.classifiers import Classifier
from trainables.targets import classes_and_labels
from trainables.tasks import LABEL_TASKS, TASKS

MOST_IMAGES = 20_000  # of more, features take too long to compute for a look at the labels
LEARN_FROM = ("train", "val")


def unseen_logits(
    config: TrialConfig, data: TrialData, device: torch.device, ask: Callable[[], None] = lambda: None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return positions (N,) of the training and validation images, and logits (N, K) of heads that did not see them.

        config  whose backbone and image size are used
        ask     called before every batch, raises to stop

    None for masks, a backbone without pretrained weights, more than MOST_IMAGES images, or too many classes for
    cross-validation. Raises WeightsError if the weights cannot be had.
    """
    if not isinstance(config.model, ClassifierConfig) or config.model.weights == "none":
        return None
    parts = [data.dataset.indices(split) for split in LEARN_FROM]
    rows = np.concatenate(parts)
    if not 0 < len(rows) <= MOST_IMAGES:
        return None
    classes, labels, _ = classes_and_labels(config, data)
    assert isinstance(labels, Tensor)
    num_outputs = TASKS[config.task].num_outputs(len(classes))
    model = build_model(config.model, num_outputs, config.image_size).to(device).eval()
    assert isinstance(model, Classifier)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    backbone = FrozenBackbone(config, model, data, device, 0, ask)
    # Split by split, as a probe keeps them.
    features = torch.cat([backbone.of_images(part) for part in parts if len(part)]).to(device)
    together = data.dataset.groups_of(rows)
    solved = solve_head(
        features.float(),
        labels[torch.from_numpy(rows)].to(device),
        LABEL_TASKS[config.task].plain_loss,
        num_outputs,
        l2=None,
        seed=config.seed,
        groups=None if together is None else torch.from_numpy(together),
        widths=backbone.widths,
        ask=ask,
    )
    return None if solved.unseen is None else (rows, solved.unseen.float().cpu().numpy())
