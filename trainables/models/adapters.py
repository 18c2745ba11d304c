"""Low-rank adapters of a transformer's linear layers (LoRA, Hu et al. 2021, arXiv:2106.09685).

A layer's weight W (out, in) stays fixed, and alpha / rank * up @ down is added: up (out, rank), down (rank, in). Only
up and down are trained. `plain_state_dict` merges them into W, so the weights kept of an epoch are a plain network's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainables.config.adapter import Lora
from visionsweep.core.errors import ConfigError

# timm's names: queries, keys and values together or apart, and the two or three layers of the MLP behind them.
ATTENTION = re.compile(r"(^|\.)attn\.(qkv|q_proj|k_proj|v_proj|proj)$")
MLP = re.compile(r"(^|\.)mlp\.(fc1|fc1_g|fc1_x|fc2|w1|w2|w3|w12)$")


class LowRank(nn.Module):
    """W (out, in) in, W + scale * up @ down out. It begins as W: `up` is zero."""

    def __init__(self, weight: Tensor, config: Lora) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = config.alpha / config.rank
        self.down = nn.Parameter(torch.empty(config.rank, columns, device=weight.device, dtype=weight.dtype))
        self.up = nn.Parameter(torch.zeros(rows, config.rank, device=weight.device, dtype=weight.dtype))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)  # a linear layer's own

    def forward(self, weight: Tensor) -> Tensor:
        # In full precision, so that a merged weight is the one that was trained with, to the last bit.
        with nullcontext() if weight.is_meta else torch.autocast(weight.device.type, enabled=False):
            return weight + self.scale * (self.up @ self.down)


def add_adapters(backbone: nn.Module, config: Lora, name: str) -> None:
    """Put an adapter on each trained linear layer of attention and MLP, and freeze the rest of the backbone.

    The weight itself is replaced, not the layer: some of timm's networks read it without calling the layer. `name` is
    the backbone's. Raises ConfigError if it has no such layer.
    """
    layers = {path: layer for path, layer in backbone.named_modules() if isinstance(layer, nn.Linear)}
    if not any(ATTENTION.search(path) for path in layers):
        raise ConfigError(
            f"model.adapter is for the linear layers of attention, and backbone '{name}' has none. Set model.backbone "
            "to a transformer, such as vit_small_patch16_224, or model.adapter=null."
        )
    trained = [
        layer
        for path, layer in layers.items()
        if (ATTENTION.search(path) or MLP.search(path)) and layer.weight.requires_grad
    ]
    if not trained:
        raise ConfigError(
            f"model.adapter adapts layers that are trained, and model.freeze leaves none in backbone '{name}'. Set "
            "model.freeze=none or to an earlier stage, or model.adapter=null."
        )
    backbone.requires_grad_(False)
    for layer in trained:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, config))
        layer.get_parameter("parametrizations.weight.original").requires_grad_(False)


def plain_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of the network without adapters, each of them added to its weight."""
    adapted = dict(_adapted(module))
    plain: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        layer = name.partition(".parametrizations.")[0].removesuffix(".bias")
        if layer in adapted:  # in a plain layer's own order: the weight first
            plain.setdefault(f"{layer}.weight", adapted[layer].weight.detach())
        if ".parametrizations." not in name:
            plain[name] = tensor
    return plain


def num_plain_parameters(module: nn.Module) -> int:
    """Count the weights of the network without adapters."""
    adapters = (one for _, layer in _adapted(module) for one in layer.modules() if isinstance(one, LowRank))
    extra = sum(parameter.numel() for one in adapters for parameter in one.parameters())
    return sum(parameter.numel() for parameter in module.parameters()) - extra


def _adapted(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) and parametrize.is_parametrized(layer, "weight"):
            yield name, layer
