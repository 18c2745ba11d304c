"""Heads: features (B, F) in, logits (B, K) out."""

from __future__ import annotations

from torch import nn

from trainables.config.model import HEADS, HeadPart, LinearHead, MishMlpHead
from visionsweep.core.names import pick


def build_head(config: HeadPart, in_features: int, num_outputs: int) -> nn.Module:
    """The configured head for features (B, in_features) and logits (B, num_outputs)."""
    head: nn.Module = pick(HEADS, config.name, "head").load()(config, in_features, num_outputs)
    return head


def linear(config: LinearHead, in_features: int, num_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Dropout(config.dropout), nn.Linear(in_features, num_outputs))


def mish_mlp(config: MishMlpHead, in_features: int, num_outputs: int) -> nn.Module:
    """Mish between two linear layers (Misra 2019, arXiv:1908.08681)."""
    return nn.Sequential(
        nn.Linear(in_features, config.hidden),
        nn.Mish(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, num_outputs),
    )
