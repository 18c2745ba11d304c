"""The images of a batch that each rank trains on, and the weight of their loss in the batch's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from trainables.accumulation import divided_by
from trainables.config.architecture import SEGMENTERS
from trainables.config.model import SegmenterConfig
from trainables.config.trial import TrialConfig
from trainables.data.dataset import VOID
from trainables.losses import Loss
from trainables.models.single_image import needs_two_images

Share = Callable[[Tensor, slice], Tensor | float]


def parts(num_images: int, num_ranks: int, least: int) -> list[slice]:
    """Return the rows of a batch for each rank, in order and of nearly equal number.

    The last ranks have none if there are fewer than `least` for each.
    """
    taking = max(1, min(num_ranks, num_images // least))
    edges = [number * num_images // taking for number in range(taking + 1)]
    rows = [slice(start, stop) for start, stop in pairwise(edges)]
    return rows + [slice(0, 0)] * (num_ranks - taking)


def least_images(config: TrialConfig) -> int:
    """Return how many images a rank needs at once: two where batch norm cannot train on one."""
    model = config.model
    if isinstance(model, SegmenterConfig) and SEGMENTERS[model.architecture.name].two_images:
        return 2
    return 2 if needs_two_images(model, config.image_size) else 1


def most_images(config: TrialConfig, num_ranks: int) -> int:
    """Return how many images of a whole batch the rank with the most of them trains on."""
    rows = parts(config.batch_size, num_ranks, least_images(config)) if num_ranks > 1 else [slice(0, config.batch_size)]
    return max(part.stop - part.start for part in rows)


def share_of(config: TrialConfig, loss: Loss) -> Share:
    """Return a function of a batch's targets, on their device, and a rank's rows: the weight of the rank's loss.

    The weighted losses of all ranks add up to the loss of the whole batch. The targets are those that the loss gets, so
    mixed images count with their mixed labels. Dice and Lovasz are no means: the values of the ranks are averaged.
    """
    kind = divided_by(config)
    if kind == "sum":
        return lambda targets, rows: 1.0
    if kind == "images":
        return lambda targets, rows: (rows.stop - rows.start) / len(targets)
    masses = _pixels(loss) if kind == "pixels" else _weights(loss)

    def share(targets: Tensor, rows: slice) -> Tensor:
        each = masses(targets)  # (B,) never read here, so a GPU is not waited for
        return each[rows].sum() / each.sum().clamp(min=1e-12)  # zero if all pixels are void

    return share


def _pixels(loss: Loss) -> Callable[[Tensor], Tensor]:
    def masses(masks: Tensor) -> Tensor:
        weights = torch.ones(VOID, device=masks.device) if loss.weight is None else loss.weight
        padded = F.pad(weights, (0, VOID + 1 - len(weights)))  # (256,): void weighs nothing
        return padded[masks.long()].flatten(1).sum(dim=1)

    return masses


def _weights(loss: Loss) -> Callable[[Tensor], Tensor]:
    weights = loss.weight
    assert weights is not None
    return lambda targets: (weights * targets).sum(dim=1)
