"""Optimizers and the parameter groups they work on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from trainables.config.optimizer import OPTIMIZERS, Adam, AdamW, OptimizerPart, Sgd
from trainables.config.solved import Lbfgs
from trainables.config.trial import TrialConfig
from trainables.lean_imports import eager
from trainables.models.freezing import parameter_stages
from trainables.schedules import lr_factor
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import pick

Group = dict[str, Any]
Kind = tuple[int | None, bool]  # the backbone's stage, None for the head, and whether it has no weight decay

# torch's own, without the import of its compiler.
SGD = eager(torch.optim.SGD)
ADAM = eager(torch.optim.Adam)
ADAMW = eager(torch.optim.AdamW)

FUSED = ("cuda",)  # devices on which a step is one kernel for all tensors, instead of several
NUM_STAGES = 4  # of a backbone; its stem is stage 0


def build_optimizer(config: OptimizerPart | Lbfgs, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer over all of the model's parameters that are not frozen.

    A model has a `backbone` and the names of its `stages`. All else counts as its head. Every group has an `lr_scale`.
    The loop sets its learning rate to `lr * factor * lr_scale`. A solved head (`trainables/features/probe.py`) gets an
    optimizer that takes no steps.

    With `layer_decay` lower stages of the backbone learn more slowly. Raises ConfigError if the backbone has no stages
    then.

    Howard and Ruder 2018, "Universal language model fine-tuning for text classification", section 3.2.
    """
    if isinstance(config, Lbfgs):
        return SGD([{"params": model.get_submodule("head").parameters(), "lr_scale": 1.0}], lr=0.0)
    optimizer: torch.optim.Optimizer = pick(OPTIMIZERS, config.name, "optimizer").load()(config, _groups(config, model))
    return optimizer


def sgd(config: Sgd, groups: Sequence[Group]) -> torch.optim.Optimizer:
    return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=_nesterov(config), fused=_fused(groups))


def adam(config: Adam, groups: Sequence[Group]) -> torch.optim.Optimizer:
    return ADAM(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=_fused(groups))


def adamw(config: AdamW, groups: Sequence[Group]) -> torch.optim.Optimizer:
    return ADAMW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=_fused(groups))


def _fused(groups: Sequence[Group]) -> bool | None:
    """Return whether a step is one kernel for all tensors, None for torch's own choice.

    Said to the optimizer, and not to its groups alone, it also divides by fp16's loss scale in that kernel. Otherwise
    each step would wait for the GPU, to learn whether a gradient has overflowed.
    """
    return True if groups and all(group["params"][0].device.type in FUSED for group in groups) else None


def _nesterov(config: Sgd) -> bool:
    return config.nesterov and config.momentum > 0  # torch refuses Nesterov without momentum, where it has no effect


def _groups(config: OptimizerPart, model: nn.Module) -> list[Group]:
    """Return groups of the backbone, or its stages, and the head, each with and without weight decay.

    Groups without parameters are left out. Groups depend on the kinds of parameters, not on the configured values. So a
    copy of a trial with other values has the same groups.
    """
    kinds = _kinds(model)
    if config.layer_decay == 1:
        kinds = _without_stages(kinds)
    elif not getattr(model, "stages", ()) and any(stage is not None for stage, _ in kinds.values()):
        raise ConfigError(
            f"optimizer.layer_decay is {config.layer_decay:g}, but this backbone has no four stages. "
            "Set optimizer.layer_decay=1."
        )
    groups: list[Group] = []
    for members in _grouped(kinds):
        stage, plain = kinds[members[0]]
        lr_scale = 1.0
        if stage is not None:
            lr_scale = config.backbone_lr_scale * config.layer_decay ** (NUM_STAGES - stage)
        decay = 0.0 if plain else config.weight_decay
        groups.append({"params": members, "lr": config.lr * lr_scale, "lr_scale": lr_scale, "weight_decay": decay})
    return groups


def _kinds(model: nn.Module) -> dict[nn.Parameter, Kind]:
    """Return the kind of each trained parameter, in the model's order."""
    backbone = model.get_submodule("backbone")
    names = getattr(model, "stages", ())
    stages = parameter_stages(backbone, names) if names else {}
    undecayed = _undecayed_names(model)
    kinds: dict[nn.Parameter, Kind] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # Biases and the scales of norms are not decayed: it costs accuracy (He et al. 2019, arXiv:1812.01187, 3.1).
            plain = parameter.ndim <= 1 or name.endswith(".bias") or name in undecayed
            of_backbone = name.startswith("backbone.")
            stage = stages.get(name.removeprefix("backbone."), NUM_STAGES) if of_backbone else None
            kinds[parameter] = (stage, plain)
    return kinds


def _without_stages(kinds: Mapping[nn.Parameter, Kind]) -> dict[nn.Parameter, Kind]:
    return {one: (None if stage is None else NUM_STAGES, plain) for one, (stage, plain) in kinds.items()}


def _grouped(keys: Mapping[nn.Parameter, Hashable]) -> list[list[nn.Parameter]]:
    """Return groups of parameters with equal keys. Groups and members keep the order of `keys`."""
    groups: dict[Hashable, list[nn.Parameter]] = {}
    for parameter, key in keys.items():
        groups.setdefault(key, []).append(parameter)
    return list(groups.values())


def load_optimizer(optimizer: torch.optim.Optimizer, stored: Group, model: nn.Module) -> None:
    """Give a fresh optimizer the moments of a stored one, whose `state_dict()` is `stored`.

    Options such as the learning rate stay the configuration's own. A copy of another trial has other values.
    Raises ValueError if the stored one has other parameters.
    """
    own = optimizer.state_dict()
    order = _order_stored(optimizer, model, [len(group["params"]) for group in stored["param_groups"]])
    members = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    places = {parameter: place for place, parameter in enumerate(members)}
    moments = {places[order[place]]: moment for place, moment in stored["state"].items()}
    optimizer.load_state_dict({"state": moments, "param_groups": own["param_groups"]})


def _order_stored(optimizer: torch.optim.Optimizer, model: nn.Module, sizes: list[int]) -> list[nn.Parameter]:
    """Return the parameters in the order in which an optimizer with groups of such sizes stored them."""
    kinds = _kinds(model)
    values = {
        parameter: (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    # Equal sizes mean equal groups, because each way of grouping only joins groups of the way before it. The last is
    # that of version 0.4, which joined groups of equal values.
    for keys in (kinds, _without_stages(kinds), {parameter: values[parameter] for parameter in kinds}):
        groups = _grouped(keys)
        if [len(group) for group in groups] == sizes:
            return [parameter for group in groups for parameter in group]
    raise ValueError(
        f"its optimizer has {sum(sizes)} parameters in {len(sizes)} groups, and this one has {len(values)} in "
        f"{len(optimizer.param_groups)}"
    )


def _undecayed_names(model: nn.Module) -> set[str]:
    """Return the names that a timm backbone exempts from weight decay, such as position embeddings."""
    exempt = getattr(model.get_submodule("backbone"), "no_weight_decay", None)
    return {f"backbone.{name}" for name in exempt()} if callable(exempt) else set()


def set_lr(config: TrialConfig, optimizer: torch.optim.Optimizer, epoch: float) -> None:
    """Set the learning rate of every group at `epoch`, the progress of the training in epochs."""
    assert not isinstance(config.optimizer, Lbfgs)  # which takes no steps
    lr = config.optimizer.lr * lr_factor(config.schedule, epoch, config.epochs)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["base_lr"] = lr


def base_lr(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate of parameters without a scale of their own."""
    group = optimizer.param_groups[0]
    return float(group.get("base_lr", group["lr"]))
