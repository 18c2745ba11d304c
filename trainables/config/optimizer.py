"""The optimizers of a configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainables.config.base import Fraction
from trainables.config.entries import Entry, Named


class OptimizerPart(Named):
    lr: Annotated[float, Field(gt=0, le=100)]
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    backbone_lr_scale: Annotated[float, Field(ge=0, le=1)] = 1.0
    layer_decay: Fraction = 1.0  # stage s of the backbone, 0 its stem, learns at layer_decay ** (4 - s) of that


class Sgd(OptimizerPart):
    name: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False


class Adam(OptimizerPart):
    name: Literal["adam"] = "adam"
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999


class AdamW(OptimizerPart):
    name: Literal["adamw"] = "adamw"
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01


# Functions of (settings, groups of parameters) that return torch's optimizer. A solved head is in `solved.py`.
OPTIMIZERS: dict[str, Entry] = {
    "sgd": Entry(Sgd, "trainables.optimizers:sgd"),
    "adam": Entry(Adam, "trainables.optimizers:adam"),
    "adamw": Entry(AdamW, "trainables.optimizers:adamw"),
}
