"""The result of the builders of segmenters."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from trainables.models.backbones import Backbone


@dataclass(frozen=True)
class Network:
    """A backbone, and the decoder that turns its output into logits (B, C, h, w).

    A decoder with an auxiliary classifier returns (logits, auxiliary logits) in training mode. h and w may be fractions
    of the image's height and width. Those are multiples of `stride` and at least `min_size` pixels.
    """

    backbone: Backbone
    decoder: nn.Module
    stride: int
    min_size: int = 1
