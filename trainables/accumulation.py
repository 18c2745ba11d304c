"""Batches in groups of one optimizer step, and what each counts in the step's gradient."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data.dataset import VOID
from trainables.losses import Loss

Mass = Callable[[Tensor], float]  # targets of a batch, on the host -> what the mean of its loss divides by


@dataclass(frozen=True)
class MicroBatch:
    """inputs, images (B, S, S, 3) uint8 or kept features (B, F), and their targets as `loader.batches` gives them.

    group_size: images of its optimizer step. share: of its gradient in the step's. counts: of its loss in the epoch's
    mean, in images.
    """

    inputs: Tensor
    targets: Tensor
    group_size: int
    share: float
    counts: float


class Waited:
    """Batches, and how many seconds were spent on waiting for them."""

    def __init__(self, batches: Iterator[MicroBatch]) -> None:
        self.batches, self.seconds = batches, 0.0

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
    """Say of every batch what it counts in its group, so that the group's gradient is the large batch's.

    The last group may be smaller. mass: where a loss is a mean over something else than images, all batches of a group
    are read before the first of them is trained on.
    """
    effective_batch = config.batch_size * config.accumulate
    summed = getattr(config.loss, "reduction", "mean") == "sum"  # sums add up to the group's by themselves
    left, held, waiting = num_images, 0, list[tuple[Tensor, Tensor]]()
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
        left, held, waiting = left - group_size, 0, []


def _weighed(group: list[tuple[Tensor, Tensor]], group_size: int, mass: Mass) -> Iterator[MicroBatch]:
    masses = [mass(targets) for _, targets in group]
    total = max(sum(masses), 1e-12)  # of nothing but void
    for (images, targets), one in zip(group, masses, strict=True):
        yield MicroBatch(images, targets, group_size, one / total, one / total * group_size)


def batch_mass(config: TrialConfig, loss: Loss) -> Mass | None:
    """Return what the loss divides by, None where it is the images of the batch.

    The weights of the classes shown, or the pixels that are not void. Dice and Lovasz are no means: an accumulated step
    takes the mean of the batches' own values, which is not the large batch's.
    """
    if config.accumulate == 1 or getattr(config.loss, "reduction", "mean") == "sum":
        return None
    if config.task == "segmentation" and config.loss.name in ("cross_entropy", "focal"):
        weighed = np.ones(VOID) if loss.weight is None else loss.weight.double().cpu().numpy()
        return lambda masks: float(np.bincount(masks.flatten().numpy(), minlength=VOID + 1)[: len(weighed)] @ weighed)
    if getattr(config.loss, "class_weights", "none") != "none":
        weights = torch.as_tensor(loss.weight).cpu()
        # Mixing moves targets within a batch, and leaves their sum.
        return lambda targets: float((weights * targets).double().sum())
    return None
