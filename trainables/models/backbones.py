"""Backbones: images (B, 3, H, W) in, pooled features (B, F) out. All of timm's, and two of torchvision's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights, Inception_V3_Weights, alexnet, inception_v3

from trainables.config.parts import part_names
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import did_you_mean

Colour = tuple[float, ...]  # a value for each channel

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
HALF: Colour = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Backbone:
    """A backbone without its classifier.

    num_features  of its pooled output, 0 for a segmenter's, which gives maps
    mean, std     of the images that its weights were trained on
    stages        names of the modules that end its four stages, empty if it has no stages
    maps          (name, channels) of the modules whose maps may be pooled as features: those of its stages
    """

    module: nn.Module
    num_features: int
    mean: Colour
    std: Colour
    stages: tuple[str, ...]
    maps: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class TorchvisionBackbone:
    """A torchvision model with the facts that timm gives of its own.

    `build` takes the weights to download, or None.
    """

    build: Callable[[Any], Any]
    weights: Any
    num_features: int
    mean: Colour
    std: Colour
    stages: tuple[str, ...]
    stage_channels: tuple[int, ...]
    min_image_size: int


def _stored(weights: Any) -> Any:
    """Return the state dict, downloaded once.

    Passing `weights` to torchvision would unpickle a crafted file from its cache, without checking the hash.
    """
    return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)


def _alexnet(weights: Any) -> Any:
    model = alexnet()
    if weights is not None:
        model.load_state_dict(_stored(weights))
    model.classifier = model.classifier[:-1]
    return model


def _inception_v3(weights: Any) -> Any:
    model = inception_v3(init_weights=weights is None)
    if weights is not None:
        model.load_state_dict(_stored(weights))
    model.transform_input = False  # our images come normalised as its weights want them
    model.fc = nn.Identity()
    return model


TORCHVISION_BACKBONES = {
    "alexnet": TorchvisionBackbone(
        build=_alexnet,
        weights=AlexNet_Weights.IMAGENET1K_V1,
        num_features=4096,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        stages=("features.2", "features.5", "features.9", "features.12"),
        stage_channels=(64, 192, 256, 256),
        min_image_size=63,
    ),
    # Not timm's, for its auxiliary classifier.
    "inception_v3": TorchvisionBackbone(
        build=_inception_v3,
        weights=Inception_V3_Weights.IMAGENET1K_V1,
        num_features=2048,
        mean=HALF,
        std=HALF,
        stages=("maxpool2", "Mixed_5d", "Mixed_6e", "Mixed_7c"),
        stage_channels=(192, 288, 768, 2048),
        min_image_size=75,
    ),
}


def pixel_colours(mean: Colour, std: Colour) -> tuple[Tensor, Tensor]:
    """The two for pixels in [0, 255], (C, 1, 1) each."""
    return torch.tensor(mean).view(-1, 1, 1) * 255, torch.tensor(std).view(-1, 1, 1) * 255


def check_backbone(name: str) -> None:
    """Raise ConfigError with the nearest known name if a backbone is unknown. Of 'a+b' both are checked."""
    for part in part_names(name):
        _check_part(part)


def _check_part(name: str) -> None:
    if name in TORCHVISION_BACKBONES:
        return
    known = timm.list_models(include_tags="." in name)  # 'resnet18', or with the tag of its weights 'resnet18.a1_in1k'
    if name not in known:
        raise ConfigError(
            f"unknown backbone '{name}'. {did_you_mean(name, [*TORCHVISION_BACKBONES, *known])} "
            "`visionsweep spaces classification-gpu-small` lists what a shipped search uses."
        )


def create_backbone(name: str, image_size: int, pretrained: bool = False, cached: Path | None = None) -> Backbone:
    """Build a backbone for square images of `image_size` pixels, with its hub's weights if `pretrained`.

    cached: the downloaded file of the hub's weights, if it is known (timm's backbones only).

    Raises ConfigError for an unknown backbone, or one that cannot take images of this size. If the download fails, the
    hub client's exception is raised.
    """
    check_backbone(name)
    if name in TORCHVISION_BACKBONES:
        return _create_torchvision(name, image_size, pretrained)
    pretrain: dict[str, Any] = {"pretrained": pretrained}
    if cached:  # `custom_load` describes the file at the original address, not the hub's
        pretrain["pretrained_cfg_overlay"] = {"file": str(cached), "custom_load": False}
    module = _create_timm(name, image_size, pretrain)
    about = module.pretrained_cfg
    levels = _stages(getattr(module, "feature_info", None) or [])
    return Backbone(
        module=module,
        num_features=getattr(module, "head_hidden_size", module.num_features),
        mean=tuple(about.get("mean") or IMAGENET_MEAN),
        std=tuple(about.get("std") or IMAGENET_STD),
        stages=tuple(level["module"] for level in levels),
        maps=tuple((level["module"], level["num_chs"]) for level in levels),
    )


def _create_torchvision(name: str, image_size: int, pretrained: bool) -> Backbone:
    entry = TORCHVISION_BACKBONES[name]
    if image_size < entry.min_image_size:
        raise ConfigError(
            f"backbone '{name}' takes images of {entry.min_image_size} pixels or more, not {image_size}. "
            "Raise image_size or choose another backbone."
        )
    module = entry.build(entry.weights if pretrained else None)
    maps = tuple(zip(entry.stages, entry.stage_channels, strict=True))
    return Backbone(module, entry.num_features, entry.mean, entry.std, entry.stages, maps)


def _create_timm(name: str, image_size: int, pretrain: dict[str, Any]) -> Any:
    about = timm.get_pretrained_cfg(name)
    if about is None or not about.fixed_input_size:
        return timm.create_model(name, num_classes=0, **pretrain)
    # Models of a fixed size need theirs, and plain transformers also how to pad to whole patches.
    pads = {"img_size": image_size, "dynamic_img_size": True, "dynamic_img_pad": True}
    for arguments in (pads, {"img_size": image_size}):
        try:
            return timm.create_model(name, num_classes=0, **pretrain, **arguments)
        except TypeError:  # timm's own sign that a model has no such argument
            continue
    own_size = about.input_size[-1]
    if image_size != own_size:
        raise ConfigError(
            f"backbone '{name}' takes images of {own_size} pixels only, not {image_size}. Set image_size."
        )
    return timm.create_model(name, num_classes=0, **pretrain)


def _stages(levels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the last four levels of a pyramid, or the quarters of a model whose levels share one resolution."""
    if len({level["reduction"] for level in levels}) >= 4:
        return levels[-4:]
    return [levels[(stage * len(levels)) // 4 - 1] for stage in (1, 2, 3, 4)] if len(levels) >= 4 else []
