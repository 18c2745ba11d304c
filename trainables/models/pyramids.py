"""Backbones of segmenters: images (B, 3, H, W) in, maps of several resolutions out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from trainables.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, Colour, check_backbone
from trainables.models.weights import load_weights
from visionsweep.core.errors import ConfigError, WeightsError

PROBE_SIZE = (64, 96)  # height and width of the image by which a pyramid's sizes are checked
# Prefixes of a backbone's own names after timm and segmentation-models-pytorch have wrapped it.
WRAPPERS = ("model.model.", "model.body.", "model.")


@dataclass(frozen=True)
class Source:
    """The source of a backbone's weights: timm's model `name`, or None. `weights` is as in the configuration."""

    name: str | None
    weights: str
    image_size: int


def encoder_arguments(name: str, image_size: int, stride: int) -> dict[str, Any]:
    """Return timm's arguments for maps at strides 4 to 32, none coarser than `stride`, from any image size.

    Raises ConfigError for an unknown backbone, one without such a pyramid, or one that `stride` is impossible with.
    """
    check_backbone(name)
    about = timm.get_pretrained_cfg(name)
    choices: list[dict[str, Any]] = [{}]
    if about is not None and about.fixed_input_size:
        # The size decides the windows and tables of attention. Some models take other sizes only if asked to.
        own_size = {"img_size": pyramid_size(image_size)}
        choices = [own_size | {"strict_img_size": False}, own_size]
    arguments = next((choice for choice in choices if _has_pyramid(name, 32, **choice)), None)
    if arguments is None:
        raise ConfigError(
            f"backbone '{name}' gives no feature pyramid (maps at 1/4, 1/8, 1/16 and 1/32 of any image), and a decoder "
            "works on one. Set model.backbone to one that does, such as resnet34, tf_efficientnet_lite0 or "
            "convnext_tiny."
        )
    if stride < 32 and not _has_pyramid(name, stride, **arguments):
        raise ConfigError(
            f"backbone '{name}' cannot keep its last maps at 1/{stride} of the image by dilation, as pspnet and the "
            "deeplabs need it. Set model.backbone to one that can, such as resnet34, or model.architecture to unet, "
            "fpn, upernet or segformer."
        )
    return arguments


def pyramid_size(image_size: int) -> int:
    """Return the size to which an image of `image_size` pixels is padded, for maps at a stride of 32."""
    return -(-image_size // 32) * 32


@cache  # half a second each
def _has_pyramid(name: str, stride: int, **arguments: Any) -> bool:
    height, width = PROBE_SIZE
    try:
        with torch.device("meta"):  # shapes alone: no memory, no time
            encoder = get_encoder(f"tu-{name}", weights=None, output_stride=stride, **arguments).eval()
            maps = encoder(torch.empty(1, 3, height, width))
    except Exception:  # timm's models say no as they like: TypeError, RuntimeError, ValueError, AssertionError
        return False
    strides = [min(2**level, stride) for level in range(len(maps))]
    expected = [(height // reduction, width // reduction) for reduction in strides]
    # The first two levels may miss by a pixel: no decoder adds them to anything.
    return len(maps) == 6 and [tuple(level.shape[2:]) for level in maps[2:]] == expected[2:]


def pretrained_encoder(encoder: Any, source: Source) -> Backbone:
    """An encoder of segmentation-models-pytorch's around timm's `source.name`, with the weights of `source`.

    Raises WeightsError when they cannot be had or do not cover the encoder.
    """
    levels = encoder.model.feature_info.module_name()[-4:]
    own_names = {_plain(name): name for name, _ in encoder.named_modules()}
    stages = tuple(own_names[_plain(level)] for level in levels if _plain(level) in own_names)
    return pretrained(encoder, source, stages if len(stages) == 4 else ())


def pretrained(module: nn.Module, source: Source, stages: tuple[str, ...]) -> Backbone:
    """A part of timm's `source.name` as a backbone, with the weights of `source`.

    stages: the modules, by name, that end its four stages. Raises WeightsError as `pretrained_encoder` does.
    """
    mean, std = colours(source.name)
    if source.weights != "none" and source.name:
        copy_weights(load_weights(source.name, source.weights, pyramid_size(source.image_size)).module, module, source)
    return Backbone(module, num_features=0, mean=mean, std=std, stages=stages)


def colours(name: str | None) -> tuple[Colour, Colour]:
    """Return mean and std of the images that timm's backbone was trained on, by default ImageNet's."""
    about = timm.get_pretrained_cfg(name) if name else None
    if about is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(about.mean or IMAGENET_MEAN), tuple(about.std or IMAGENET_STD)


def copy_weights(loaded: nn.Module, module: nn.Module, source: Source) -> None:
    """Copy every parameter and buffer of `module` by name from `loaded`, a whole classifier's backbone.

    Raises WeightsError where one is missing or of another shape.
    """
    stored = {_plain(name): tensor for name, tensor in loaded.state_dict().items()}
    own = module.state_dict()
    found = {name: stored[_plain(name)] for name in own if _plain(name) in stored}
    missing = list(_misfits(own, found))
    if missing:
        raise WeightsError(
            f"the weights of '{source.name}' ({source.weights}) lack {len(missing)} of the {len(own)} tensors that its "
            f"feature maps need, the first is {missing[0]}. Choose another model.backbone, or train from scratch "
            "(--set model.weights=none)."
        )
    module.load_state_dict(found)


def _misfits(own: dict[str, Tensor], found: dict[str, Tensor]) -> Iterator[str]:
    for name, tensor in own.items():
        if name not in found or found[name].shape != tensor.shape:
            yield f"{name} {tuple(tensor.shape)}"


def _plain(name: str) -> str:
    """Return a name without wrappers, with '_' for '.'.

    timm turns `stages.0.blocks` into `stages_0.blocks` if it takes a model apart.
    """
    for wrapper in WRAPPERS:
        if name.startswith(wrapper):
            name = name.removeprefix(wrapper)
            break
    return name.replace(".", "_")
