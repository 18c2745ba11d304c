"""Estimate how much a backbone computes, without running it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

from trainables.models.backbones import create_backbone
from visionsweep.core.errors import InputError

SIDE_PX = 224


class _Multiplications(TorchFunctionMode):
    """Count the multiplications of convolutions, linear layers, matrix products and attention.

    Everything else is small beside them. torch's own FlopCounterMode counts the same, but fails at networks that begin
    with a learned query.
    """

    def __init__(self) -> None:
        super().__init__()
        self.number: float = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.conv1d, torch.conv2d, torch.conv3d):
            self.number += result.numel() * math.prod(args[1].shape[1:])
        elif func in (F.linear, torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm):
            self.number += result.numel() * args[0].shape[-1]
        elif func is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            self.number += key.shape[-2] * (query.numel() + math.prod(query.shape[:-1]) * value.shape[-1])
        return result


@cache
def counted(name: str) -> float:
    """Count the giga-FLOPs on torch's meta device, where a tensor has a shape and no values."""
    try:
        with torch.device("meta"), torch.no_grad(), _Multiplications() as multiplications:
            create_backbone(name, SIDE_PX).module.eval()(torch.empty(1, 3, SIDE_PX, SIDE_PX))
    except (InputError, RuntimeError, NotImplementedError, AssertionError):  # another fixed size, or not for meta
        return 1.0
    return max(2e-9 * float(multiplications.number), 1e-3)
