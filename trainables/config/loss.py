"""The losses of a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from trainables.config.entries import Entry, Named
from visionsweep.core.functions import Place
from visionsweep.core.tasks import TASKS


class LossPart(Named):
    """A loss's settings. With `class_weights` or `pos_weight` its function gets weights counted on the training set."""


class CrossEntropy(LossPart):
    """Softmax cross-entropy.

    class_weights  counted on the training split: inverse_frequency, or median_frequency, the median of the classes'
                   frequencies over each one's (Eigen & Fergus 2015, arXiv:1411.4734)
    reduction      sum adds up all pixels or images of a batch, as early FCNs did, and needs a very small learning rate
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "inverse_frequency", "median_frequency"] = "none"
    reduction: Literal["mean", "sum"] = "mean"


class Bce(LossPart):
    """Binary cross-entropy on logits. pos_weight `balanced` weighs a class's positives by negatives / positives."""

    name: Literal["bce"] = "bce"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pos_weight: Literal["none", "balanced"] = "none"


class Focal(LossPart):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002)."""

    name: Literal["focal"] = "focal"
    gamma: Annotated[float, Field(ge=0, le=10)] = 2.0


class Dice(LossPart):
    """One minus the soft Dice overlap, averaged over the classes (Milletari et al. 2016, arXiv:1606.04797).

    `ce_weight` x cross-entropy is added. With `accumulate` it is the mean over the batches, not their joint overlap.
    """

    name: Literal["dice"] = "dice"
    ce_weight: Annotated[float, Field(ge=0, le=10)] = 0.0


class Lovasz(LossPart):
    """Lovasz-Softmax, a convex surrogate of the IoU (Berman et al. 2018, arXiv:1705.08790).

    `ce_weight` x cross-entropy is added. With `accumulate` it is the mean over the batches.
    """

    name: Literal["lovasz"] = "lovasz"
    ce_weight: Annotated[float, Field(ge=0, le=10)] = 0.0


@dataclass(frozen=True)
class LossEntry(Entry):
    """A loss, and its function for each kind of outputs that it is made for.

    Functions of (logits, targets, weights, settings) that return a scalar. softmax: classes (B, C), of which an image
    has one. sigmoid: answers (B, K), each yes or no. pixels: classes (B, C, H, W) and targets (B, H, W).
    """

    function: None = None
    softmax: Place | None = None
    sigmoid: Place | None = None
    pixels: Place | None = None
    mean_of_pixels: bool = False  # whether the loss of masks is the mean over their pixels, or the weighted mean


LOSSES: dict[str, LossEntry] = {
    "cross_entropy": LossEntry(
        CrossEntropy,
        softmax="trainables.losses:cross_entropy",
        pixels="trainables.losses_pixel:cross_entropy",
        mean_of_pixels=True,
    ),
    "bce": LossEntry(Bce, sigmoid="trainables.losses:bce"),
    "focal": LossEntry(
        Focal,
        softmax="trainables.losses:focal_softmax",
        sigmoid="trainables.losses:focal_sigmoid",
        pixels="trainables.losses_pixel:focal",
        mean_of_pixels=True,
    ),
    "dice": LossEntry(Dice, pixels="trainables.losses_pixel:dice"),
    "lovasz": LossEntry(Lovasz, pixels="trainables.losses_pixel:lovasz"),
}


def losses_of(task: str) -> tuple[str, ...]:
    """Return the names of a task's losses, its own first. Empty for a task that does not exist."""
    if task not in TASKS:
        return ()
    return tuple(name for name, entry in LOSSES.items() if getattr(entry, TASKS[task].outputs) is not None)
