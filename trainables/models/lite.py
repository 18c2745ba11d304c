"""ImageNet weights that come as Python packages, so that no hub is needed: tf_efficientnet_lite0, 1 and 2."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from torch import Tensor

from trainables.models.known import LITE_PACKAGES

# The packages' names -> timm's. A block without expansion has no `_bn0`, and its point-wise convolution is its last.
TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def lite_state_dict(backbone: str, block_names: list[str]) -> dict[str, Tensor]:
    """Return the packaged weights under timm's names, with the classifier.

    `block_names` are timm's blocks in order.
    """
    package, file_class = LITE_PACKAGES[backbone]
    file = Path(getattr(importlib.import_module(package), file_class).get_model_file_path())
    stored: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return {_timm_name(name, stored, block_names): tensor for name, tensor in stored.items()}


def _timm_name(name: str, stored: dict[str, Tensor], block_names: list[str]) -> str:
    if not name.startswith("_blocks."):
        layer, leaf = name.split(".", 1)
        return f"{TOP[layer]}.{leaf}"
    _, index, layer, leaf = name.split(".", 3)
    layers = BLOCK if f"_blocks.{index}._expand_conv.weight" in stored else FIRST_BLOCK
    return f"{block_names[int(index)]}.{layers[layer]}.{leaf}"
