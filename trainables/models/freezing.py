"""Which part of a backbone is frozen, and in which stage each of its parameters lies."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.models.backbones import Backbone
from visionsweep.core.errors import ConfigError


def freeze_backbone(backbone: Backbone, level: str) -> list[nn.Module]:
    """Stop the gradients up to and including a stage (`stage1` to `stage4`), of `all`, or of `none`.

    Returns the frozen modules, which have to stay in evaluation mode: batch norm would go on collecting statistics.
    Raises ConfigError if the backbone has no stages.
    """
    modules = list(backbone.module.named_modules())  # in the order of the forward pass, parents before children
    if level == "none":
        return []
    if level == "all":
        backbone.module.requires_grad_(False)
        return [module for _, module in modules]
    if not backbone.stages:
        raise ConfigError(
            f"freeze is '{level}', but this backbone has no four stages. Set model.freeze to none or all."
        )
    last_name = backbone.stages[int(level.removeprefix("stage")) - 1]
    last = _end_of(modules, last_name)
    for _, module in modules[: last + 1]:
        # Of a module that reaches beyond the cut only what is its own: a transformer's class token and positions.
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    return [module for name, module in modules[: last + 1] if not _within(last_name, name) or name == last_name]


def fixed_norms(module: nn.Module, batch_norm: str) -> list[nn.Module]:
    """Return the batch norm layers that stay in evaluation mode: all of `module`'s if `batch_norm` is `fixed`.

    They keep their pretrained statistics, and still learn scale and shift. Statistics of a few small batches are noise
    beside those of ImageNet (see torchvision's `FrozenBatchNorm2d` in its detectors).
    """
    return [one for one in module.modules() if isinstance(one, _BatchNorm)] if batch_norm == "fixed" else []


def parameter_stages(module: nn.Module, stages: Sequence[str]) -> dict[str, int]:
    """Return the stage of each of a backbone's parameters by name: 1 to 4, or 0 for the stem.

    stages: names of the modules that end the four stages. Everything after the last one belongs to it.
    """
    modules = list(module.named_modules())
    places = {name: place for place, (name, _) in enumerate(modules)}
    first = _first_module(stages[0])
    begin = places[first if first in places else stages[0]]
    ends = [_end_of(modules, stage) for stage in stages[:-1]]
    found: dict[str, int] = {}
    for place, (name, one) in enumerate(modules):
        stage = 0 if place < begin else 1 + sum(place > end for end in ends)
        # Those of the module itself: a transformer's class token and positions are of the stem.
        for own, _ in one.named_parameters(name, recurse=False):
            found[own] = stage
    return found


def _first_module(stage: str) -> str:
    """The module that the first stage begins with: blocks.0 where it ends with blocks.2."""
    parent, dot, last = stage.rpartition(".")
    return f"{parent}{dot}0" if last.isdigit() else stage


def _end_of(modules: list[tuple[str, nn.Module]], stage: str) -> int:
    """The place of the stage's last module."""
    return max(place for place, (name, _) in enumerate(modules) if _within(name, stage))


def _within(name: str, ancestor: str) -> bool:
    return ancestor in ("", name) or name.startswith(f"{ancestor}.")
