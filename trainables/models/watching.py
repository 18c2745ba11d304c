"""Outputs of modules inside a network, while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn


@contextlib.contextmanager
def outputs_of(network: nn.Module, names: Sequence[str]) -> Iterator[list[Any]]:
    """Collect what the modules of these names return in one call of the network, in the order of the names.

    The hooks last for the call alone, as a copy of the network would share lasting ones.
    """
    outputs: list[Any] = [None] * len(names)
    handles = [
        network.get_submodule(name).register_forward_hook(partial(_keep, outputs, number))
        for number, name in enumerate(names)
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _keep(outputs: list[Any], number: int, module: nn.Module, inputs: Any, output: Any) -> None:
    outputs[number] = output


def pooled(output: Tensor, channels: int) -> Tensor:
    """Return (B, channels), the mean over the places of a map (B, channels, h, w) or (B, h, w, channels), or over
    tokens (B, N, channels).
    """
    if output.dim() == 3:
        return output.mean(1)
    return output.mean((2, 3) if output.shape[1] == channels else (1, 2))
