"""Losses of segmentation: functions of logits (B, C, H, W) float and targets (B, H, W) int64.

Pixels without a label are VOID and contribute nothing. A batch of void pixels alone gives zero and no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from trainables.config.loss import CrossEntropy, Dice, Focal, Lovasz
from trainables.data.dataset import VOID
from trainables.losses_overlap import dice_overlap, lovasz_softmax

PixelLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # logits, targets, class weights (C,) -> scalar


def cross_entropy(
    logits: Tensor, targets: Tensor, class_weights: Tensor | None, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Return softmax cross-entropy, the weighted mean over the pixels that count or their sum."""
    total = F.cross_entropy(
        logits, targets, class_weights, ignore_index=VOID, reduction="sum", label_smoothing=label_smoothing
    )
    if reduction == "sum":
        return total
    counts = targets != VOID
    if class_weights is None:
        return total / counts.sum().clamp(min=1)
    padded = F.pad(class_weights, (0, VOID + 1 - len(class_weights)))  # (256,): void weighs nothing
    return total / padded[targets].sum().clamp(min=1e-12)


def focal(logits: Tensor, targets: Tensor, _: Tensor | None, gamma: float) -> Tensor:
    """Return focal loss on the softmax probability of the true class (Lin et al. 2017, arXiv:1708.02002, eq. 4)."""
    log_p = -F.cross_entropy(logits, targets, ignore_index=VOID, reduction="none")  # (B, H, W), zero where void
    doubt = (-torch.expm1(log_p)).clamp(min=1e-8)  # 1 - p; a power below 1 has an infinite gradient at zero
    return -(doubt**gamma * log_p).sum() / (targets != VOID).sum().clamp(min=1)


def dice(logits: Tensor, targets: Tensor, _: Tensor | None, ce_weight: float) -> Tensor:
    """Return 1 - soft Dice overlap, over the classes in the batch, plus `ce_weight` x cross-entropy."""
    loss = dice_overlap(logits, targets)
    return loss + ce_weight * cross_entropy(logits, targets, None) if ce_weight else loss


def lovasz(logits: Tensor, targets: Tensor, _: Tensor | None, ce_weight: float) -> Tensor:
    """Return Lovasz-Softmax over the pixels of the batch, plus `ce_weight` x cross-entropy."""
    loss = lovasz_softmax(logits, targets)
    return loss + ce_weight * cross_entropy(logits, targets, None) if ce_weight else loss


def _cross_entropy(config: CrossEntropy) -> PixelLoss:
    return partial(cross_entropy, label_smoothing=config.label_smoothing, reduction=config.reduction)


def _focal(config: Focal) -> PixelLoss:
    return partial(focal, gamma=config.gamma)


def _dice(config: Dice) -> PixelLoss:
    return partial(dice, ce_weight=config.ce_weight)


def _lovasz(config: Lovasz) -> PixelLoss:
    return partial(lovasz, ce_weight=config.ce_weight)


PIXEL_LOSSES: dict[str, Callable[[Any], PixelLoss]] = {
    "cross_entropy": _cross_entropy,
    "focal": _focal,
    "dice": _dice,
    "lovasz": _lovasz,
}


def inverse_frequency(pixel_counts: np.ndarray) -> Tensor:
    """Return (C,) weights inverse to the pixels of each class, with mean 1 over the classes that have any.

    pixel_counts (N, C) are those of every training mask. A class without pixels weighs 1.
    """
    return _over(pixel_counts.sum(axis=0).astype(float), lambda counts: float(1 / np.mean(1 / counts)))


def median_frequency(pixel_counts: np.ndarray) -> Tensor:
    """Return (C,) weights, the median of the classes' frequencies over each one's frequency.

    A class's frequency is its share of the pixels of those images that show it.
    Eigen & Fergus 2015 (arXiv:1411.4734, section 6.3.2).
    """
    shown = pixel_counts > 0  # (N, C)
    of_images = (shown * pixel_counts.sum(axis=1, keepdims=True)).sum(axis=0)
    frequencies = pixel_counts.sum(axis=0) / np.maximum(of_images, 1)
    return _over(frequencies, lambda present: float(np.median(present)))


def _over(shares: np.ndarray, numerator: Callable[[np.ndarray], float]) -> Tensor:
    """Return numerator / share for the classes that have a share, 1 for the rest."""
    present = shares > 0
    weights = np.ones(len(shares))
    if present.any():
        weights[present] = numerator(shares[present]) / shares[present]
    return torch.as_tensor(weights, dtype=torch.float32)
