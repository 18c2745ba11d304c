"""Losses of segmentation: functions of logits (B, C, H, W) float, targets (B, H, W) int64, weights (C,) and settings.

Pixels without a label are VOID and contribute nothing. A batch of void pixels alone gives zero and no gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from trainables.config.loss import CrossEntropy, Dice, Focal, Lovasz
from trainables.data.dataset import VOID
from trainables.losses_overlap import dice_overlap, lovasz_softmax

PLAIN = CrossEntropy()


def cross_entropy(
    logits: Tensor, targets: Tensor, class_weights: Tensor | None, settings: CrossEntropy = PLAIN
) -> Tensor:
    """Return softmax cross-entropy, the weighted mean over the pixels that count or their sum."""
    total = F.cross_entropy(
        logits, targets, class_weights, ignore_index=VOID, reduction="sum", label_smoothing=settings.label_smoothing
    )
    if settings.reduction == "sum":
        return total
    counts = targets != VOID
    if class_weights is None:
        return total / counts.sum().clamp(min=1)
    padded = F.pad(class_weights, (0, VOID + 1 - len(class_weights)))  # (256,): void weighs nothing
    return total / padded[targets].sum().clamp(min=1e-12)


def focal(logits: Tensor, targets: Tensor, _: Tensor | None, settings: Focal) -> Tensor:
    """Return focal loss on the softmax probability of the true class (Lin et al. 2017, arXiv:1708.02002, eq. 4)."""
    log_p = -F.cross_entropy(logits, targets, ignore_index=VOID, reduction="none")  # (B, H, W), zero where void
    doubt = (-torch.expm1(log_p)).clamp(min=1e-8)  # 1 - p; a power below 1 has an infinite gradient at zero
    return -(doubt**settings.gamma * log_p).sum() / (targets != VOID).sum().clamp(min=1)


def dice(logits: Tensor, targets: Tensor, _: Tensor | None, settings: Dice) -> Tensor:
    """Return 1 - soft Dice overlap, over the classes in the batch, plus `ce_weight` x cross-entropy."""
    return _with_cross_entropy(dice_overlap(logits, targets), logits, targets, settings.ce_weight)


def lovasz(logits: Tensor, targets: Tensor, _: Tensor | None, settings: Lovasz) -> Tensor:
    """Return Lovasz-Softmax over the pixels of the batch, plus `ce_weight` x cross-entropy."""
    return _with_cross_entropy(lovasz_softmax(logits, targets), logits, targets, settings.ce_weight)


def _with_cross_entropy(loss: Tensor, logits: Tensor, targets: Tensor, weight: float) -> Tensor:
    return loss + weight * cross_entropy(logits, targets, None) if weight else loss


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
