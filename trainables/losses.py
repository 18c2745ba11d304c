"""Losses: functions of logits and targets, both (B, K) float, weights (K,) or None, and the loss's settings.

Those of segmentation are in `losses_pixel.py`. `LOSSES`, in `config/loss.py`, lists both.

Targets are one-hot or soft for multiclass, one column for binary, multi-hot or soft for multilabel. So mixed images
(MixUp, CutMix) need no special case.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

from trainables.config.loss import LOSSES, Bce, CrossEntropy, Focal
from trainables.config.trial import TrialConfig
from trainables.losses_pixel import inverse_frequency, median_frequency
from visionsweep.core.functions import function_at
from visionsweep.core.names import pick
from visionsweep.core.tasks import TASKS

LossOf = Callable[[Tensor, Tensor], Tensor]  # logits and targets -> ()
MIN_BASE = 1e-8  # a power below 1 has an infinite gradient at zero


class Loss(nn.Module):
    """A loss with its class weights, which `.to(device)` moves along. It is always computed in float32."""

    weight: Tensor | None

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor | None], Tensor], weight: Tensor | None) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        # Pixels keep their class numbers; everything else may be soft.
        wanted = targets.float() if targets.ndim == logits.ndim else targets.long()
        return self.function(logits.float(), wanted, self.weight)


def build_loss(config: TrialConfig, train_targets: np.ndarray, num_classes: int) -> Loss:
    """Return the configured loss, with class weights counted on the training targets.

    train_targets  (N,) int64 for binary and multiclass, (N, C) uint8 for multilabel, pixels of each class (N, C) int64
                   for segmentation
    """
    entry = pick(LOSSES, config.loss.name, "loss")
    place = getattr(entry, TASKS[config.task].outputs)
    return Loss(partial(function_at(place), settings=config.loss), _weights(config, train_targets, num_classes))


def loss_on(loss: LossOf, device: torch.device) -> LossOf:
    """Return a loss whose weights are on the device. It is the same one if they are there already."""
    weight = getattr(loss, "weight", None)
    if not isinstance(loss, nn.Module) or weight is None or weight.device == device:
        return loss
    return copy.deepcopy(loss).to(device)


def cross_entropy(logits: Tensor, targets: Tensor, class_weights: Tensor | None, settings: CrossEntropy) -> Tensor:
    """Return softmax cross-entropy, the weighted mean over the batch or the sum."""
    weights = logits.new_ones(logits.shape[1]) if class_weights is None else class_weights  # (K,)
    smoothing = settings.label_smoothing
    smooth = targets * (1 - smoothing) + smoothing / logits.shape[1]
    total = -(weights * smooth * F.log_softmax(logits, dim=1)).sum()
    # torch divides by B for soft targets, which lets rare classes shrink the loss. For hard ones it divides by their
    # weights, as here.
    return total if settings.reduction == "sum" else total / (weights * targets).sum()


def bce(logits: Tensor, targets: Tensor, pos_weight: Tensor | None, settings: Bce) -> Tensor:
    """Return the mean binary cross-entropy over all outputs."""
    smooth = targets * (1 - settings.label_smoothing) + settings.label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=pos_weight)


def focal_softmax(logits: Tensor, targets: Tensor, _: Tensor | None, settings: Focal) -> Tensor:
    """Return focal loss on the softmax probability of the true class (Lin et al. 2017, arXiv:1708.02002, eq. 4)."""
    log_p = F.log_softmax(logits, dim=1)
    doubt = (-torch.expm1(log_p)).clamp(min=MIN_BASE)  # 1 - p
    return -(targets * doubt**settings.gamma * log_p).sum(dim=1).mean()


def focal_sigmoid(logits: Tensor, targets: Tensor, _: Tensor | None, settings: Focal) -> Tensor:
    """Return the mean focal loss over all outputs (Lin et al. 2017, eq. 4), without the balancing factor alpha."""
    missed = torch.sigmoid(-logits).clamp(min=MIN_BASE) ** settings.gamma * F.softplus(-logits)
    false_alarm = torch.sigmoid(logits).clamp(min=MIN_BASE) ** settings.gamma * F.softplus(logits)
    return (targets * missed + (1 - targets) * false_alarm).mean()


# By their names in a configuration: counts (N, C), of pixels or of images, -> weights (C,).
CLASS_WEIGHTS = {"inverse_frequency": inverse_frequency, "median_frequency": median_frequency}


def _weights(config: TrialConfig, train_targets: np.ndarray, num_classes: int) -> Tensor | None:
    """Return the weights that the loss's settings ask for: (C,) of classes or (K,) of positives, None for none."""
    if getattr(config.loss, "pos_weight", "none") == "balanced":
        return positive_weight(train_targets)
    kind = getattr(config.loss, "class_weights", "none")
    if kind == "none":
        return None
    is_counted = TASKS[config.task].pixels
    return CLASS_WEIGHTS[kind](train_targets if is_counted else np.bincount(train_targets, minlength=num_classes)[None])


def positive_weight(train_targets: np.ndarray) -> Tensor:
    """Return (K,) negatives / positives of every output, 1 where either is missing."""
    hits = train_targets.reshape(len(train_targets), -1)  # (N, K)
    positives = hits.sum(axis=0, dtype=np.int64)
    negatives = len(hits) - positives
    weights = np.where((positives > 0) & (negatives > 0), negatives / np.maximum(positives, 1), 1.0)
    return torch.as_tensor(weights, dtype=torch.float32)


def loss_with_aux(
    output: Tensor | tuple[Tensor, Tensor], targets: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor], weight: float
) -> Tensor:
    """Return the loss of logits, or of (logits, auxiliary logits) with the latter times `weight`."""
    if isinstance(output, tuple):
        logits, aux_logits = output
        return loss_of(logits.float(), targets) + weight * loss_of(aux_logits.float(), targets)
    return loss_of(output.float(), targets)
