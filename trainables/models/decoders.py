"""Decoders on any backbone of timm's that gives a feature pyramid: segmentation-models-pytorch's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from trainables.config.architecture import DeepLabV3, DeepLabV3Plus, Fpn, PspNet, SegFormer, UNet, UPerNet
from trainables.models.network import Network
from trainables.models.pyramids import Source, encoder_arguments, pretrained_encoder
from visionsweep.core.errors import ConfigError

GROUPS = 32  # of the group norm in FPN's segmentation blocks


class PyramidDecoder(nn.Module):
    """A decoder of maps at strides 1, 2, 4, 8, 16 and 32 to logits (B, C, h, w) at its own resolution."""

    def __init__(self, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = head

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.head(self.decoder(maps))
        return logits


def unet(config: UNet, source: Source, num_classes: int) -> Network:
    widths = [max(8, config.channels // 2**level) for level in range(5)]
    return _assemble(smp.Unet, source, num_classes, decoder_channels=widths)


def fpn(config: Fpn, source: Source, num_classes: int) -> Network:
    half = max(1, round(config.channels / 2 / GROUPS)) * GROUPS
    widths = {"decoder_pyramid_channels": config.channels, "decoder_segmentation_channels": half}
    network = _assemble(smp.FPN, source, num_classes, upsampling=1, **widths)
    # Group norm refuses a single value. A group of one channel has just one if one image's map is one pixel.
    return replace(network, min_size=network.stride + 1) if half == GROUPS else network


def pspnet(config: PspNet, source: Source, num_classes: int) -> Network:
    """Use the whole backbone, with its last maps at an eighth by dilation, as in the paper (Figure 3).

    The library's default leaves out the last two stages.
    """
    deep = {"encoder_depth": 5, "output_stride": 8}
    return _assemble(smp.PSPNet, source, num_classes, 8, upsampling=1, psp_out_channels=config.channels, **deep)


def deeplabv3(config: DeepLabV3, source: Source, num_classes: int) -> Network:
    """DeepLabV3 at an eighth of the resolution, which gives the paper's best results."""
    stride = 8
    widths = {"decoder_channels": config.channels, "encoder_output_stride": stride}
    return _assemble(smp.DeepLabV3, source, num_classes, stride, upsampling=1, **widths)


def deeplabv3plus(config: DeepLabV3Plus, source: Source, num_classes: int) -> Network:
    """DeepLabV3+ at a sixteenth of the resolution, the paper's trade-off between speed and accuracy."""
    stride = 16
    widths = {"decoder_channels": config.channels, "encoder_output_stride": stride}
    return _assemble(smp.DeepLabV3Plus, source, num_classes, stride, upsampling=1, **widths)


def upernet(config: UPerNet, source: Source, num_classes: int) -> Network:
    return _assemble(smp.UPerNet, source, num_classes, upsampling=1, decoder_channels=config.channels)


def segformer(config: SegFormer, source: Source, num_classes: int) -> Network:
    return _assemble(smp.Segformer, source, num_classes, upsampling=1, decoder_segmentation_channels=config.channels)


def _assemble(kind: Any, source: Source, num_classes: int, stride: int = 32, **arguments: Any) -> Network:
    """Take a model of the library apart: padding, upsampling, freezing and weights are ours."""
    name = str(source.name)
    arguments |= encoder_arguments(name, source.image_size, stride)
    model = kind(f"tu-{name}", encoder_weights=None, classes=num_classes, **arguments)
    num_channels = model.encoder.out_channels[-1]
    if kind is smp.PSPNet and num_channels % 4:
        raise ConfigError(
            f"pspnet splits the last map of its backbone in four, and that of '{name}' has {num_channels} channels. "
            "Set model.backbone to one with a multiple of four, such as resnet34, or choose another architecture."
        )
    return Network(
        backbone=pretrained_encoder(model.encoder, source),
        decoder=PyramidDecoder(model.decoder, model.segmentation_head),
        stride=stride,
    )
