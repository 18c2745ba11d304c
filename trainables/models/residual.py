"""torchvision's segmenters on ResNets, with or without their auxiliary classifier."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_resnet101 as torchvision_deeplabv3
from torchvision.models.segmentation import fcn_resnet50 as torchvision_fcn

from trainables.config.architecture import DeepLabV3ResNet101, FcnResNet50
from trainables.models.network import Network
from trainables.models.pyramids import Source, pretrained

STRIDE = 8  # of the last map: both ResNets are dilated
STAGES = ("layer1", "layer2", "layer3", "layer4")


class ResidualDecoder(nn.Module):
    """A decoder of maps `out` and `aux` (B, ., H/8, W/8) to logits (B, C, H/8, W/8).

    In training mode it also returns the auxiliary logits, if it has that classifier.
    """

    def __init__(self, classifier: nn.Module, aux_classifier: nn.Module | None) -> None:
        super().__init__()
        self.classifier = classifier
        self.aux_classifier = aux_classifier

    def forward(self, maps: dict[str, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        logits: Tensor = self.classifier(maps["out"])
        if self.aux_classifier is None or not self.training:
            return logits
        return logits, self.aux_classifier(maps["aux"])


def deeplabv3_resnet101(config: DeepLabV3ResNet101, source: Source, num_classes: int) -> Network:
    return _assemble(torchvision_deeplabv3, config.aux_weight, source, num_classes)


def fcn_resnet50(config: FcnResNet50, source: Source, num_classes: int) -> Network:
    return _assemble(torchvision_fcn, config.aux_weight, source, num_classes)


def _assemble(build: Any, aux_weight: float, source: Source, num_classes: int) -> Network:
    model = build(weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=aux_weight > 0)
    decoder = ResidualDecoder(model.classifier, model.aux_classifier)
    return Network(pretrained(model.backbone, source, STAGES), decoder, STRIDE)
