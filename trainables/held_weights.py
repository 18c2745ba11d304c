"""What a checkpoint leaves out: weights that stay as the pretrained ones are, and come from where those came from.

A head on a frozen backbone is a thousandth of the model, and a checkpoint is written after every epoch. The digest of
what is left out tells whether it is the same where the training goes on.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from trainables.averaging import names_that_move
from trainables.feature_key import tensors_digest

if TYPE_CHECKING:
    from trainables.state import TrainState


def held_names(model: nn.Module, weights: str) -> frozenset[str]:
    """Return which of a model's tensors no training changes, by name; none where they were drawn (`weights` none).

    model: in training mode, before its first step.
    """
    return frozenset() if weights == "none" else frozenset(model.state_dict()) - set(names_that_move(model))


def pack_weights(state: TrainState) -> dict[str, Any]:
    """Return the weights of a training, and of their mean, as `unpack_weights` takes them."""
    mean = None if state.ema is None else _left(state.ema.module, state.held)
    return {
        "model": _left(state.model, state.held),
        "ema": None if mean is None else {f"module.{name}": tensor for name, tensor in mean.items()},
        "held": _digest(state) if state.held else None,
    }


def unpack_weights(state: TrainState, stored: dict[str, Any]) -> None:
    """Fill the weights of a fresh state. Raises ValueError where what was left out is not what the state has."""
    held: dict[str, Tensor] = {}
    if stored.get("held") is not None:  # those of before 0.5 hold everything
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
