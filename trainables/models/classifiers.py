"""Classifiers: a backbone, a head, and what they need to know of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn
from torchvision.models.inception import InceptionAux

from trainables.config.adapter import Lora
from trainables.config.model import ClassifierConfig
from trainables.models.adapters import add_adapters
from trainables.models.backbones import TORCHVISION_BACKBONES, Colour, check_backbone
from trainables.models.base import BackboneModel
from trainables.models.freezing import fixed_norms, freeze_backbone
from trainables.models.heads import build_head
from trainables.models.side_by_side import SideBySide
from trainables.models.weights import load_weights

__all__ = ["TORCHVISION_BACKBONES", "Classifier", "build_classifier", "check_backbone"]

AUX_LAYER = "Mixed_6e"
AUX_MAP_SIZE = 17  # what Inception's auxiliary classifier was made for: the map of a 299 pixel image


class Classifier(BackboneModel):
    """A model of images (B, 3, H, W), normalised with `mean` and `std`, to logits (B, K).

    aux_head: Inception's auxiliary classifier, which works on one of the backbone's inner maps.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean: Colour,
        std: Colour,
        aux_head: nn.Module | None = None,
        frozen: Sequence[nn.Module] = (),
        stages: Sequence[str] = (),
    ) -> None:
        super().__init__(backbone, mean, std, frozen, stages)
        self.head = head
        self.aux_head = aux_head

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits (B, K), or (logits, auxiliary logits) in training mode with an auxiliary head."""
        if self.aux_head is None or not self.training:
            logits: Tensor = self.head(self.features(images))
            return logits
        features, aux_map = self._run_backbone_with_aux(images)
        return self.head(features), self.aux_head(aux_map)

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (B, F), what the head sees."""
        features: Tensor = self.run_backbone(images)
        return features

    def parts(self) -> list[Classifier]:
        """Return the backbones side by side, each as a model without a head.

        A model with a single backbone returns itself. The parts' concatenated features equal those of the whole, to the
        last bit.
        """
        if not isinstance(self.backbone, SideBySide):
            return [self]
        parts = [
            Classifier(backbone, nn.Identity(), *colours, frozen=self._frozen)
            for backbone, colours in zip(self.backbone.backbones(), self.backbone.colours, strict=True)
        ]
        return [part.to(self.pixel_mean.device).train(self.training) for part in parts]

    def _run_backbone_with_aux(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and the map (B, 768, h, w) of the auxiliary head."""
        # A hook is needed, as Inception returns the map in training mode only, and a frozen one is in evaluation mode.
        # It lasts for this call only, as a copy of the model would share a lasting one.
        maps: list[Tensor] = []
        handle = self.backbone.get_submodule(AUX_LAYER).register_forward_hook(lambda *call: maps.append(call[2]))
        try:
            features: Tensor = self.run_backbone(images, hooked=True)
            return features, maps[0]
        finally:
            handle.remove()


class AuxHead(nn.Module):
    """Inception's auxiliary classifier, with our outputs and for any image size."""

    def __init__(self, pretrained: InceptionAux, num_outputs: int) -> None:
        super().__init__()
        self.classifier = pretrained
        self.classifier.fc = nn.Linear(pretrained.fc.in_features, num_outputs)

    def forward(self, aux_map: Tensor) -> Tensor:
        if min(aux_map.shape[-2:]) < AUX_MAP_SIZE:  # its 5 x 5 convolution would fall off the map of a smaller image
            aux_map = F.interpolate(aux_map, size=(AUX_MAP_SIZE, AUX_MAP_SIZE))
        logits: Tensor = self.classifier(aux_map)
        return logits

    def freeze_convolutions(self) -> list[nn.Module]:
        """Freeze everything but the last layer. Return the frozen modules."""
        convolutions = [self.classifier.conv0, self.classifier.conv1]
        for convolution in convolutions:
            convolution.requires_grad_(False)
        return [module for convolution in convolutions for module in convolution.modules()]


def build_classifier(config: ClassifierConfig, num_outputs: int, image_size: int) -> Classifier:
    """Build the configured model with `num_outputs` logits for square images of `image_size` pixels.

    Raises ConfigError for an unknown backbone or an image size that it cannot take, and WeightsError if the weights are
    not available.
    """
    backbone = load_weights(config.backbone, config.weights, image_size, config.bands)
    aux_head = _take_aux_head(backbone.module, num_outputs, wanted=config.aux_weight > 0)
    for part in backbone.module.modules():  # one among several has no auxiliary classifier to train
        _take_aux_head(part, num_outputs, wanted=False)
    frozen = freeze_backbone(backbone, config.freeze) + fixed_norms(backbone.module, config.batch_norm)
    if aux_head is not None:
        # Its convolutions are pretrained like the others, while its classifier is as new as the head (report "We need
        # to go deeper", section 2: all convolutions frozen, both classifiers replaced and trained).
        frozen += fixed_norms(aux_head, config.batch_norm)
        frozen += aux_head.freeze_convolutions() if config.freeze == "all" else []
    head = build_head(config.head, backbone.num_features, num_outputs)
    if config.adapter is not None:  # after the head, which is drawn as it would be without
        add_adapters(backbone.module, config.adapter, config.backbone)
        frozen += fixed_norms(backbone.module, "fixed")
    return Classifier(backbone.module, head, backbone.mean, backbone.std, aux_head, frozen, backbone.stages)


def check_adapted(backbone: str) -> None:
    """Raise ConfigError if a backbone has no layers for adapters."""
    with torch.device("meta"):  # shapes alone: no memory, and hardly any time
        build_classifier(ClassifierConfig(backbone=backbone, weights="none", adapter=Lora()), 2, 224)


def _take_aux_head(backbone: Any, num_outputs: int, wanted: bool) -> AuxHead | None:
    """Move the auxiliary classifier out of the backbone."""
    pretrained = getattr(backbone, "AuxLogits", None)
    if not isinstance(pretrained, InceptionAux):
        return None
    backbone.AuxLogits = None
    backbone.aux_logits = False
    return AuxHead(pretrained, num_outputs) if wanted else None
