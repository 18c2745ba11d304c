"""Losses of overlap, for logits (B, C, H, W) and targets (B, H, W) int64, where void pixels do not count.

They equal `DiceLoss` and `LovaszLoss` of segmentation-models-pytorch. These take less memory, and Lovasz does not
wait for a GPU. The library asks of each class whether the batch has it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.data.dataset import VOID

EPSILON = 1e-7  # the least size of a class in a batch, in pixels


def dice_overlap(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - soft Dice overlap, the mean over the classes in the batch. 0 if every pixel is void.

    Milletari et al. 2016 (arXiv:1606.04797, section 3).
    """
    probabilities, truth, counts = _flat(logits, targets)
    inside = truth < len(counts)  # (P,) not void
    own = probabilities.gather(0, truth.clamp(max=len(counts) - 1)[None])[0] * inside  # (P,) of the true class
    hits = torch.zeros_like(counts).index_add(0, truth.clamp(max=len(counts) - 1), own)
    predicted = probabilities @ inside.to(probabilities.dtype)  # (C,)
    overlap = 2 * hits / (predicted + counts).clamp(min=EPSILON)
    return _mean_of_present(1 - overlap, counts)


def lovasz_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the Lovasz extension of 1 - IoU, the mean over the classes in the batch. 0 if every pixel is void.

    Berman et al. 2018 (arXiv:1705.08790, algorithm 1).
    """
    probabilities, truth, counts = _flat(logits, targets)
    is_class = truth == torch.arange(len(counts), device=logits.device)[:, None]  # (C, P)
    # How wrong each pixel is about each class. The void ones are not wrong at all, so they are last and weigh nothing.
    errors = torch.where(is_class, 1 - probabilities, probabilities) * (truth < len(counts))
    weights = torch.empty_like(errors)  # which depend on the order alone
    orders = errors.detach().argsort(dim=1, descending=True)
    for row, order, of_class, count in zip(weights, orders, is_class, counts, strict=True):
        hits = of_class[order].float().cumsum(dim=0)  # (P,) pixels of the class among the first n
        others = torch.arange(1, len(hits) + 1, device=logits.device) - hits
        lost = 1 - (count - hits) / (count + others)  # 1 - IoU when those are wrong
        row.scatter_(0, order, torch.diff(lost, prepend=lost.new_zeros(1)))
    return _mean_of_present((errors * weights).sum(dim=1), counts)


def _flat(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities (C, P) float32, the class of each pixel (P,) with C for void, and pixels per class (C,)."""
    num_classes = logits.shape[1]
    probabilities = logits.float().softmax(dim=1).transpose(0, 1).flatten(1)
    truth = torch.where(targets == VOID, num_classes, targets).flatten()
    ones = torch.ones_like(truth, dtype=torch.float32)
    # Not bincount, which waits for a GPU to learn the largest value.
    counts = torch.zeros(num_classes + 1, device=logits.device).index_add(0, truth, ones)
    return probabilities, truth, counts[:num_classes]


def _mean_of_present(values: Tensor, counts: Tensor) -> Tensor:
    present = counts > 0
    return torch.where(present, values, 0.0).sum() / present.sum().clamp(min=1)
