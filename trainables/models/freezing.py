"""Keep the lower part of a backbone as its weights have it."""

from __future__ import annotations

from torch import nn

from search_spaces.errors import ConfigError
from trainables.models.backbones import Backbone


def freeze_backbone(backbone: Backbone, level: str) -> list[nn.Module]:
    """Stop the gradients of everything up to and including a stage (`stage1` to `stage4`), or of `all`; `none` is none.

    Returns the frozen modules, which have to stay in evaluation mode: batch norm would go on collecting statistics.
    Raises ConfigError when the backbone has no stages.
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
    last = max(i for i, (name, _) in enumerate(modules) if _within(name, last_name))
    for _, module in modules[: last + 1]:
        # Of a module that reaches beyond the cut only what is its own: a transformer's class token and positions.
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    return [module for name, module in modules[: last + 1] if not _within(last_name, name) or name == last_name]


def _within(name: str, ancestor: str) -> bool:
    return ancestor in ("", name) or name.startswith(f"{ancestor}.")
