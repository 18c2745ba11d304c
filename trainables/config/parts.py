"""Checks of a classifier's parts: joined backbones (`a+b`), adapters, heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.config.adapter import check_adapter

if TYPE_CHECKING:
    from trainables.config.model import ClassifierConfig


FILE_ENDINGS = (".safetensors", ".pt", ".pth", ".bin")  # of files of weights


def part_names(backbone: str) -> list[str]:
    """Return ['a', 'b'] for 'a+b'."""
    return backbone.split("+")


def check_classifier(model: ClassifierConfig) -> None:
    """Raise ValueError if parts of a classifier do not go together."""
    _check_side_by_side(model)
    check_adapter(model)
    if model.head_init == "probe" and model.head.name != "linear":
        raise ValueError(f"head_init probe solves a linear head, not '{model.head.name}': set head_init=random")


def _check_side_by_side(model: ClassifierConfig) -> None:
    """Raise ValueError if a classifier joins backbones that do not go together."""
    parts = part_names(model.backbone)
    who = f"model.backbone '{model.backbone}' joins several backbones"
    if len(parts) == 1:
        return
    if len(set(parts)) < len(parts) or not all(parts):
        raise ValueError(f"{who}, and each must be named once: for example resnet18+resnet34")
    if model.freeze not in ("none", "all"):
        raise ValueError(
            f"{who}, which have no stages in common, and model.freeze is '{model.freeze}': set model.freeze=all or none"
        )
    if model.adapter is not None:
        raise ValueError(f"{who}, and model.adapter adapts one: set model.adapter=null, or name one backbone")
    if model.weights.endswith(FILE_ENDINGS):  # a folder may have both
        raise ValueError(
            f"{who}, and the file '{model.weights}' has the weights of one: set model.weights=imagenet or none, a "
            "folder that has a file for each, or a single backbone"
        )
