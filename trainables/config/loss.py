"""The losses of a configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainables.config.base import Part


class CrossEntropy(Part):
    """Softmax cross-entropy.

    class_weights  counted on the training split: inverse_frequency, or median_frequency, the median of the classes'
                   frequencies over each one's (Eigen & Fergus 2015, arXiv:1411.4734)
    reduction      sum adds up all pixels or images of a batch, as early FCNs did, and needs a very small learning rate
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "inverse_frequency", "median_frequency"] = "none"
    reduction: Literal["mean", "sum"] = "mean"


class Bce(Part):
    """Binary cross-entropy on logits. pos_weight `balanced` weighs a class's positives by negatives / positives."""

    name: Literal["bce"] = "bce"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pos_weight: Literal["none", "balanced"] = "none"


class Focal(Part):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002)."""

    name: Literal["focal"] = "focal"
    gamma: Annotated[float, Field(ge=0, le=10)] = 2.0


class Dice(Part):
    """One minus the soft Dice overlap, averaged over the classes (Milletari et al. 2016, arXiv:1606.04797).

    `ce_weight` x cross-entropy is added. With `accumulate` it is the mean over the batches, not their joint overlap.
    """

    name: Literal["dice"] = "dice"
    ce_weight: Annotated[float, Field(ge=0, le=10)] = 0.0


class Lovasz(Part):
    """Lovasz-Softmax, a convex surrogate of the IoU (Berman et al. 2018, arXiv:1705.08790).

    `ce_weight` x cross-entropy is added. With `accumulate` it is the mean over the batches.
    """

    name: Literal["lovasz"] = "lovasz"
    ce_weight: Annotated[float, Field(ge=0, le=10)] = 0.0
