"""Gradient accumulation: batches in groups of one optimizer step, and the weight of each in the step's gradient."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trainables.config.loss import LOSSES
from trainables.config.trial import TrialConfig
from trainables.data.dataset import VOID
from trainables.losses import Loss
from visionsweep.core.tasks import task_kind

Mass = Callable[[Tensor], float]  # targets of a batch, on the host -> the divisor of its mean loss


@dataclass(frozen=True)
class MicroBatch:
    """One of the batches of an optimizer step.

    inputs      images (B, S, S, 3) uint8, with what the device still does to them, or kept features (B, F)
    targets     as `loader.batches` gives them
    group_size  number of images of the optimizer step
    share       weight of its gradient in the step's
    counts      weight of its loss in the epoch's mean, in images
    """

    inputs: Tensor
    targets: Tensor
    group_size: int
    share: float
    counts: float


class Waited:
    """An iterator over batches that counts the seconds spent waiting for them."""

    def __init__(self, batches: Iterator[MicroBatch]) -> None:
        self.batches = batches
        self.seconds = 0.0

    def __iter__(self) -> Iterator[MicroBatch]:
        while True:
            began = time.perf_counter()
            batch = next(self.batches, None)
            self.seconds += time.perf_counter() - began
            if batch is None:
                return
            yield batch


def in_groups(
    batches: Iterable[tuple[Tensor, Tensor]], config: TrialConfig, num_images: int, mass: Mass | None
) -> Iterator[MicroBatch]:
    """Yield every batch with its weight in its group, so that the group's gradient is that of one large batch.

    num_images  of the epoch; the last group may be smaller
    mass        divisor of a batch's mean loss, None if it is the number of images

    With a mass all batches of a group are read before the first is trained on.
    """
    effective_batch = config.batch_size * config.accumulate
    summed = getattr(config.loss, "reduction", "mean") == "sum"  # the sums of batches add up to the group's
    left = num_images
    held = 0
    waiting = list[tuple[Tensor, Tensor]]()
    for images, targets in batches:
        group_size = min(effective_batch, left)
        held += len(images)
        if mass is None:
            yield MicroBatch(images, targets, group_size, 1.0 if summed else len(images) / group_size, len(images))
        else:
            waiting.append((images, targets))
        if held < group_size:
            continue
        if mass is not None:
            yield from _weighed(waiting, group_size, mass)
        left = left - group_size
        held = 0
        waiting = []


def _weighed(group: list[tuple[Tensor, Tensor]], group_size: int, mass: Mass) -> Iterator[MicroBatch]:
    masses = [mass(targets) for _, targets in group]
    total = max(sum(masses), 1e-12)  # zero if all pixels are void
    for (images, targets), one in zip(group, masses, strict=True):
        yield MicroBatch(images, targets, group_size, one / total, one / total * group_size)


def batch_mass(config: TrialConfig, loss: Loss) -> Mass | None:
    """Return the divisor of a batch's mean loss, None if it is the number of images or nothing is accumulated.

    It is the sum of the targets' class weights, or the number of pixels that are not void. Dice and Lovasz are not
    means. An accumulated step averages the values of its batches. This differs from the value of one large batch.
    """
    kind = divided_by(config)
    if config.accumulate == 1 or kind in ("sum", "images"):
        return None
    if kind == "pixels":
        weighed = np.ones(VOID) if loss.weight is None else loss.weight.double().cpu().numpy()
        return lambda masks: float(np.bincount(masks.flatten().numpy(), minlength=VOID + 1)[: len(weighed)] @ weighed)
    weights = torch.as_tensor(loss.weight).cpu()
    # Mixing moves targets within a batch, and leaves their sum.
    return lambda targets: float((weights * targets).double().sum())


def divided_by(config: TrialConfig) -> Literal["sum", "pixels", "weights", "images"]:
    """Return what the loss of a batch is divided by: nothing, pixels that are not void, class weights, or images."""
    if getattr(config.loss, "reduction", "mean") == "sum":
        return "sum"
    if task_kind(config.task).pixels and LOSSES[config.loss.name].mean_of_pixels:
        return "pixels"
    return "images" if getattr(config.loss, "class_weights", "none") == "none" else "weights"
