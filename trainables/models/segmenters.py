"""Segmenters: a backbone, a decoder, and logits of exactly the image's height and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

from trainables.config.architecture import SEGMENTERS
from trainables.config.model import SegmenterConfig
from trainables.models.base import BackboneModel
from trainables.models.first_layer import with_bands
from trainables.models.freezing import fixed_norms, freeze_backbone
from trainables.models.network import Network
from trainables.models.pyramids import Source
from visionsweep.core.names import pick


class Segmenter(BackboneModel):
    """A model of images (B, 3, H, W), normalised with `mean` and `std`, to logits (B, C, H, W), for any H and W.

    Training takes batches of two images or more. Several decoders apply batch norm to maps that pooling has reduced to
    a single pixel.
    """

    def __init__(self, network: Network, frozen: Sequence[nn.Module] = ()) -> None:
        backbone = network.backbone
        super().__init__(backbone.module, backbone.mean, backbone.std, frozen, backbone.stages)
        self.decoder = network.decoder
        self.stride = network.stride
        self.min_size = network.min_size

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits (B, C, H, W), or (logits, auxiliary logits) in training mode with an auxiliary classifier."""
        height, width = images.shape[-2:]
        size = self._padded(height), self._padded(width)
        if torch.compiler.is_exporting():
            images = _edges_repeated(images, size)
        elif size != (height, width):  # on the right and at the bottom, where it is cut off again
            images = F.pad(images, (0, size[1] - width, 0, size[0] - height), mode="replicate")
        output = self.decoder(self.run_backbone(images))  # at a fraction of the padded size
        if isinstance(output, tuple):
            logits, aux_logits = (_cut(_resize(part, size), height, width) for part in output)
            return logits, aux_logits
        return _cut(_resize(output, size), height, width)

    def _padded(self, pixels: int) -> int:
        # Of positive numbers alone: ONNX divides -97 by 32 to -3, Python to -4.
        return (max(pixels, self.min_size) + self.stride - 1) // self.stride * self.stride


def build_segmenter(config: SegmenterConfig, num_classes: int, image_size: int) -> Segmenter:
    """Build the configured model for C = `num_classes`. It takes images of any size, and `image_size` pixels best.

    Raises ConfigError for an unknown backbone, one without a feature pyramid, or one without the stage that `freeze`
    names. Raises WeightsError if the weights are not available.
    """
    source = Source(config.backbone_name, config.weights, image_size)
    build = pick(SEGMENTERS, config.architecture.name, "architecture").load()
    network: Network = build(config.architecture, source, num_classes)
    name = source.name or config.architecture.name
    backbone = with_bands(network.backbone, config.bands, name, pretrained=config.weights != "none")
    network = replace(network, backbone=backbone)
    frozen = freeze_backbone(network.backbone, config.freeze)
    return Segmenter(network, frozen + fixed_norms(network.backbone.module, config.batch_norm))


def _edges_repeated(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad by repeating the edges, without a condition on the sizes.

    An exported graph would keep the answer that its example gave, whatever the sizes of later images.
    """
    rows, columns = (
        torch.arange(after, device=images.device).clamp(max=before - 1)
        for before, after in zip(images.shape[-2:], size, strict=True)
    )
    return images.index_select(2, rows).index_select(3, columns)


def _cut(logits: Tensor, height: int, width: int) -> Tensor:
    if torch.compiler.is_exporting():  # a slice asks, too
        rows, columns = (torch.arange(length, device=logits.device) for length in (height, width))
        return logits.index_select(2, rows).index_select(3, columns)
    return logits[..., :height, :width]


def _resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if not torch.compiler.is_exporting() and logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
