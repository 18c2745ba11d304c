"""The first layer of a backbone for images of other channels than three."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from trainables.config.bands import Bands
from trainables.models.backbones import Backbone
from visionsweep.core.errors import ConfigError


def with_bands(backbone: Backbone, bands: Bands | None, name: str, *, pretrained: bool) -> Backbone:
    """Return the backbone, changed in place, for images of `bands`, in their colours. None returns it as it is.

    Pretrained weights are adapted as timm does for its `in_chans`: summed for one channel, else repeated and scaled, so
    that the layer's output keeps its size. Others are drawn anew, as repeated ones would begin alike.

    Raises ConfigError for a backbone that begins with no convolution of three channels.
    """
    if bands is None:
        return backbone
    if bands.channels != 3:
        for layer in _first_layers(backbone.module, name):
            adapted = _adapted(layer.weight, bands.channels, pretrained)
            layer.weight = nn.Parameter(adapted, requires_grad=layer.weight.requires_grad)
            layer.in_channels = bands.channels
    # Divided: what a backbone says of its colours is for pixels in [0, 1].
    mean, std = (tuple(value / 255 for value in values) for values in (bands.mean, bands.std))
    return replace(backbone, mean=mean, std=std)


def _first_layers(module: nn.Module, name: str) -> list[nn.Conv2d]:
    """The convolutions that see the image: those that timm names, or else the first of all."""
    about: Any = getattr(module, "pretrained_cfg", None) or {}
    named = about.get("first_conv") or ()
    layers = dict(module.named_modules())
    found = [layers.get(one) for one in ([named] if isinstance(named, str) else named)]
    if not found or not all(_sees_rgb(layer) for layer in found):
        found = [next((layer for layer in layers.values() if isinstance(layer, nn.Conv2d)), None)]
    if not all(_sees_rgb(layer) for layer in found):
        raise ConfigError(
            f"backbone '{name}' begins with no convolution of three channels, so it takes RGB images only. Set "
            "model.backbone to another, such as resnet34, or leave --channels out."
        )
    return [layer for layer in found if isinstance(layer, nn.Conv2d)]


def _sees_rgb(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.in_channels == 3 and layer.groups == 1


@torch.no_grad()
def _adapted(weight: Tensor, channels: int, pretrained: bool) -> Tensor:
    """Return weights (O, channels, h, w) from those of three channels."""
    if pretrained:
        adapted: Tensor = adapt_input_conv(channels, weight)
        return adapted
    drawn = torch.randn(weight.shape[0], channels, *weight.shape[2:], device=weight.device, dtype=weight.dtype)
    scaled: Tensor = drawn * (3 / channels) ** 0.5 * weight.std()
    return scaled
