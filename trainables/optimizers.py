"""Optimizers and the parameter groups they work on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from search_spaces.names import pick
from trainables.config import Adam, AdamW, OptimizerPart, Sgd
from trainables.config_solved import Lbfgs

Group = dict[str, Any]


def build_optimizer(config: Sgd | Adam | AdamW | Lbfgs, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over all of the model's parameters that are not frozen.

    `model` has a `backbone`; whatever else it has counts as its head. Every group carries `lr_scale`: the loop sets
    its learning rate to `lr * factor * lr_scale`. A head that is solved (`probe.py`) gets one that takes no steps.
    """
    if isinstance(config, Lbfgs):
        return torch.optim.SGD([{"params": model.get_submodule("head").parameters(), "lr_scale": 1.0}], lr=0.0)
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
    """Backbone and head, each with and without weight decay; groups without parameters are left out.

    They are told apart by what they are and not by their values: a copy of a trial with other values has the same ones.
    """
    parameters: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    undecayed = _undecayed_names(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # Biases and the scales of norms are not decayed: it costs accuracy (He et al. 2019, arXiv:1812.01187, 3.1).
        plain = parameter.ndim <= 1 or name.endswith(".bias") or name in undecayed
        parameters.setdefault((name.startswith("backbone."), plain), []).append(parameter)
    groups: list[Group] = []
    for (of_backbone, plain), members in parameters.items():
        lr_scale = config.backbone_lr_scale if of_backbone else 1.0
        decay = 0.0 if plain else config.weight_decay
        groups.append({"params": members, "lr": config.lr * lr_scale, "lr_scale": lr_scale, "weight_decay": decay})
    return groups


def load_optimizer(optimizer: torch.optim.Optimizer, stored: Group, model: nn.Module) -> None:
    """Give a fresh optimizer the moments of a stored one, `stored` its `state_dict()`.

    The options stay the configuration's own: a copy of another trial trains with what its record says. Raises
    ValueError where the stored one has other parameters.
    """
    own = optimizer.state_dict()
    places = _places_stored(optimizer, model, len(stored["param_groups"]))
    counts = [sum(len(group["params"]) for group in one["param_groups"]) for one in (own, stored)]
    if len(places) != counts[1]:
        raise ValueError(f"it has moments of {counts[1]} parameters, and {counts[0]} are trained")
    moments = {places[place]: moment for place, moment in stored["state"].items()}
    optimizer.load_state_dict({"state": moments, "param_groups": own["param_groups"]})


def _places_stored(optimizer: torch.optim.Optimizer, model: nn.Module, num_groups: int) -> list[int]:
    """Where the parameters that were stored in turn stand in this optimizer."""
    places: dict[nn.Parameter, int] = {}
    values: dict[nn.Parameter, tuple[float, float]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            places[parameter] = len(places)
            values[parameter] = group["lr_scale"], group["weight_decay"]
    if num_groups == len(optimizer.param_groups):
        return list(places.values())
    # Up to 0.4 groups of equal values were one, and parameters stood in the order in which the model names them.
    merged: dict[tuple[float, float], list[int]] = {}
    for parameter in model.parameters():
        if parameter in places:
            merged.setdefault(values[parameter], []).append(places[parameter])
    if num_groups != len(merged):
        raise ValueError(
            f"its optimizer has {num_groups} groups of parameters, and this one {len(optimizer.param_groups)}"
        )
    return [place for members in merged.values() for place in members]


def _undecayed_names(model: nn.Module) -> set[str]:
    """What timm's backbones themselves exempt, such as position embeddings."""
    exempt = getattr(model.get_submodule("backbone"), "no_weight_decay", None)
    return {f"backbone.{name}" for name in exempt()} if callable(exempt) else set()
