"""Optimizers and the parameter groups they work on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from search_spaces.names import pick
from trainables.config import Adam, AdamW, OptimizerPart, Sgd

Group = dict[str, Any]


def build_optimizer(config: Sgd | Adam | AdamW, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over all of the model's parameters that are not frozen.

    `model` has a `backbone`; whatever else it has counts as its head. Every group carries `lr_scale`: the loop sets
    its learning rate to `lr * factor * lr_scale`.
    """
    return pick(OPTIMIZERS, config.name, "optimizer")(config, _groups(config, model))


def _sgd(config: Sgd, groups: Iterable[Group]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=_nesterov(config))


def _adam(config: Adam, groups: Iterable[Group]) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=config.lr, betas=(config.beta1, config.beta2))


def _adamw(config: AdamW, groups: Iterable[Group]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2))


OPTIMIZERS: dict[str, Callable[[Any, Iterable[Group]], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
}


def _nesterov(config: Sgd) -> bool:
    return config.nesterov and config.momentum > 0  # torch refuses Nesterov without momentum; there it means nothing


def _groups(config: OptimizerPart, model: nn.Module) -> list[Group]:
    """Backbone and head, each with and without weight decay; groups without parameters are left out."""
    parameters: dict[tuple[float, float], list[nn.Parameter]] = {}
    undecayed = _undecayed_names(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        lr_scale = config.backbone_lr_scale if name.startswith("backbone.") else 1.0
        # Biases and the scales of norms are not decayed: it costs accuracy (He et al. 2019, arXiv:1812.01187, 3.1).
        plain = parameter.ndim <= 1 or name.endswith(".bias") or name in undecayed
        parameters.setdefault((lr_scale, 0.0 if plain else config.weight_decay), []).append(parameter)
    return [
        {"params": members, "lr": config.lr * lr_scale, "lr_scale": lr_scale, "weight_decay": weight_decay}
        for (lr_scale, weight_decay), members in parameters.items()
    ]


def _undecayed_names(model: nn.Module) -> set[str]:
    """What timm's backbones themselves exempt, such as position embeddings."""
    exempt = getattr(model.get_submodule("backbone"), "no_weight_decay", None)
    return {f"backbone.{name}" for name in exempt()} if callable(exempt) else set()
