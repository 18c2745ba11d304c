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
from trainables.models.side_by_side import PART, SideBySide
from trainables.models.watching import pooled
from trainables.models.weights import load_weights
from visionsweep.core.errors import ConfigError

__all__ = ["TORCHVISION_BACKBONES", "Classifier", "build_classifier", "check_backbone"]

AUX_LAYER = "Mixed_6e"
AUX_MAP_SIZE = 17  # what Inception's auxiliary classifier was made for: the map of a 299 pixel image


class Classifier(BackboneModel):
    """A model of images (B, 3, H, W), normalised with `mean` and `std`, to logits (B, K).

    aux_head    Inception's auxiliary classifier, which works on one of the backbone's inner maps
    maps        (name, channels) of the backbone's modules whose pooled maps can be features
    sees_maps   whether the head sees them, after what the backbone returns
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
        maps: Sequence[tuple[str, int]] = (),
        sees_maps: bool = False,
    ) -> None:
        super().__init__(backbone, mean, std, frozen, stages)
        self.head = head
        self.aux_head = aux_head
        self.maps = tuple(maps)
        self.sees_maps = sees_maps

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits (B, K), or (logits, auxiliary logits) in training mode with an auxiliary head."""
        if self.aux_head is None or not self.training:
            logits: Tensor = self.head(self.features(images))
            return logits
        # Watched, as Inception returns the map (B, 768, h, w) in training mode only, and a frozen one is in evaluation
        # mode.
        features, (aux_map,) = self._watched(images, [AUX_LAYER], fold=False)
        return self.head(features), self.aux_head(aux_map)

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (B, F), what the head sees."""
        return self._watched(images, ())[0]

    def parts(self) -> list[Classifier]:
        """Return the backbones side by side, each as a model without a head.

        A model with a single backbone returns itself. The parts' concatenated features equal those of the whole, to the
        last bit.
        """
        if not isinstance(self.backbone, SideBySide):
            return [self]
        parts = [
            Classifier(backbone, nn.Identity(), *colours, frozen=self._frozen, maps=self._maps_of(number))
            for number, (backbone, colours) in enumerate(
                zip(self.backbone.backbones(), self.backbone.colours, strict=True)
            )
        ]
        return [part.to(self.pixel_mean.device).train(self.training) for part in parts]

    def wide(self) -> Classifier:
        """Return the same backbone as a model without a head, whose features have the means of its maps behind."""
        wide = Classifier(self.backbone, nn.Identity(), self.mean, self.std, None, self._frozen, (), self.maps, True)
        wide.folding = self.folding  # one folded copy for both
        return wide.to(self.pixel_mean.device).train(self.training)

    def _maps_of(self, number: int) -> list[tuple[str, int]]:
        """The maps of one of the backbones side by side, by their names in it."""
        within = PART.format(number) + "."
        return [(name.removeprefix(within), width) for name, width in self.maps if name.startswith(within)]

    def _watched(self, images: Tensor, names: Sequence[str], *, fold: bool = True) -> tuple[Tensor, list[Tensor]]:
        """Return features (B, F), and the outputs of the backbone's modules with these names."""
        maps = self.maps if self.sees_maps else ()
        found, outputs = self.run_watched(images, [*(name for name, _ in maps), *names], fold=fold)
        means = [pooled(output, width).to(found.dtype) for output, (_, width) in zip(outputs, maps, strict=False)]
        return torch.cat([found, *means], dim=1) if means else found, outputs[len(maps) :]


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
    sees_maps = config.features == "stages"
    if sees_maps and not backbone.maps:
        raise ConfigError(
            f"backbone '{config.backbone}' has no stages, and model.features is stages. Set model.features=last."
        )
    num_features = backbone.num_features + (sum(width for _, width in backbone.maps) if sees_maps else 0)
    head = build_head(config.head, num_features, num_outputs)
    if config.adapter is not None:  # after the head, which is drawn as it would be without
        add_adapters(backbone.module, config.adapter, config.backbone)
        frozen += fixed_norms(backbone.module, "fixed")
    return Classifier(
        backbone.module, head, backbone.mean, backbone.std, aux_head, frozen, backbone.stages, backbone.maps, sees_maps
    )


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
