"""Weights that checkpoints leave out: frozen pretrained ones, which are loaded from their source again.

A checkpoint is written after every epoch. A head on a frozen backbone is a thousandth of the model. A digest of the
omitted weights shows whether a resumed training has the same ones.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from trainables.averaging import names_that_move
from trainables.features.feature_key import tensors_digest

if TYPE_CHECKING:
    from trainables.state import TrainState


def held_names(model: nn.Module, weights: str) -> frozenset[str]:
    """Return the names of the tensors that no training changes. There are none for random weights (`weights` none).

    The model must be in training mode, before its first step.
    """
    return frozenset() if weights == "none" else frozenset(model.state_dict()) - set(names_that_move(model))


def pack_weights(state: TrainState) -> dict[str, Any]:
    """Return the weights of a training and their moving average, as `unpack_weights` takes them."""
    mean = None if state.ema is None else _left(state.ema.module, state.held)
    return {
        "model": _left(state.model, state.held),
        "ema": None if mean is None else {f"module.{name}": tensor for name, tensor in mean.items()},
        "held": _digest(state) if state.held else None,
    }


def unpack_weights(state: TrainState, stored: dict[str, Any]) -> None:
    """Fill the weights of a fresh state. Raises ValueError if the omitted weights are not those of the state."""
    held: dict[str, Tensor] = {}
    if stored.get("held") is not None:  # older checkpoints hold everything
        if stored["held"] != _digest(state):
            raise ValueError("its frozen weights are not those that model.weights has now")
        own = state.model.state_dict()
        held = {name: own[name] for name in state.held}
    state.model.load_state_dict({**held, **stored["model"]})
    if state.ema is not None:
        mean = {f"module.{name}": tensor for name, tensor in held.items()}
        state.ema.load_state_dict({**mean, **stored["ema"]})


def _left(model: nn.Module, held: Collection[str]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if name not in held}


def _digest(state: TrainState) -> str:
    if state.held_digest is None:  # they do not change
        tensors = state.model.state_dict()
        state.held_digest = tensors_digest({name: tensors[name] for name in sorted(state.held)})
    return state.held_digest
