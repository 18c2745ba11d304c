"""Classifiers: a backbone, a head, and what they need to know of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn
from torchvision.models.inception import InceptionAux

from trainables.config import ModelConfig
from trainables.models.backbones import TORCHVISION_BACKBONES, Colour, check_backbone
from trainables.models.freezing import freeze_backbone
from trainables.models.heads import build_head
from trainables.models.weights import load_weights

__all__ = ["TORCHVISION_BACKBONES", "Classifier", "build_classifier", "check_backbone"]

AUX_MAP_SIZE = 17  # what Inception's auxiliary classifier was made for: the map of a 299 pixel image


class Classifier(nn.Module):
    """Images (B, 3, H, W), normalised with `mean` and `std`, in; logits (B, K) out.

    pixel_mean, pixel_std: the same two for pixels in [0, 255], (3, 1, 1) on the model's device.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean: Colour,
        std: Colour,
        aux_head: nn.Module | None = None,
        frozen: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.aux_head = aux_head
        self.mean = mean
        self.std = std
        # Not persistent: they belong to the backbone's name, and stored weights stay what they were.
        self.register_buffer("pixel_mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("pixel_std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)
        self._frozen = list(frozen)
        self.train()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, K); in training mode with an auxiliary head (logits, auxiliary logits)."""
        features, aux_map = self._run_backbone(images)
        if self.aux_head is None or aux_map is None:
            logits: Tensor = self.head(features)
            return logits
        return self.head(features), self.aux_head(aux_map)

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (B, F), what the head sees."""
        return self._run_backbone(images)[0]

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        for module in self._frozen:
            module.training = False
        return self

    def _run_backbone(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        frozen_whole = self.training and not self.backbone.training
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen_whole):
            output = self.backbone(images)
        if isinstance(output, tuple):  # Inception in training mode
            return output[0], output[1]
        return output, None


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


def build_classifier(config: ModelConfig, num_outputs: int, image_size: int) -> Classifier:
    """The configured model with `num_outputs` logits for square images of `image_size` pixels.

    Raises ConfigError for an unknown backbone or an image size that it cannot take, WeightsError when the weights
    cannot be had.
    """
    backbone = load_weights(config.backbone, config.weights, image_size)
    # The auxiliary loss is there to train the backbone.
    wants_aux = config.aux_weight > 0 and config.freeze != "all"
    aux_head = _take_aux_head(backbone.module, num_outputs, wants_aux)
    frozen = freeze_backbone(backbone, config.freeze)
    head = build_head(config.head, backbone.num_features, num_outputs)
    return Classifier(backbone.module, head, backbone.mean, backbone.std, aux_head, frozen)


def _take_aux_head(backbone: Any, num_outputs: int, wanted: bool) -> AuxHead | None:
    """Move the auxiliary classifier out of the backbone, which then returns the map that it works on."""
    pretrained = getattr(backbone, "AuxLogits", None)
    if not isinstance(pretrained, InceptionAux):
        return None
    backbone.AuxLogits = nn.Identity() if wanted else None
    backbone.aux_logits = wanted
    return AuxHead(pretrained, num_outputs) if wanted else None
