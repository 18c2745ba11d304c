"""Heads that are solved in one go instead of trained, and the settings that they go with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainables.config.entries import Entry, Named

if TYPE_CHECKING:
    from trainables.config.trial import TrialConfig


class Lbfgs(Named):
    """Regularised logistic regression on kept features (see `trainables/features/solved_head.py`).

    l2  strength in mean loss + l2 / 2 * ||W||^2 on standardised features, None chooses by cross-validation on the
        training images
    """

    name: Literal["lbfgs"] = "lbfgs"
    l2: Annotated[float, Field(ge=1e-8, le=1e4)] | None = None


SOLVERS: dict[str, Entry] = {"lbfgs": Entry(Lbfgs, None)}  # it takes no steps, and the loop calls `solve_epoch`

# Fields about optimizer steps, which a solved head does not take -> the value that they must have.
OF_STEPS = {"ema_decay": None, "clip_grad_norm": None, "accumulate": 1, "repeat": 1, "least_epoch_images": None}


def check_solved(config: TrialConfig) -> None:
    """Raise ValueError if a configuration solves its head but other settings prevent it."""
    if not isinstance(config.optimizer, Lbfgs):
        return
    who = "optimizer lbfgs solves a linear head on kept features in one go"
    freeze = config.model.freeze
    if config.views is None or freeze != "all":  # `check_views` also requires freeze for views
        missing = "views is not set" if config.views is None else f"model.freeze is '{freeze}'"
        raise ValueError(f"{who}, and {missing}: set model.freeze=all and views=1 or more, or another optimizer")
    head = getattr(config.model, "head", None)
    if head is None or head.name != "linear" or head.dropout > 0:
        found = "there is none" if head is None else f"model.head is {head.name} with dropout {head.dropout:g}"
        raise ValueError(f"{who}, and {found}: set model.head.name=linear and model.head.dropout=0")
    if config.epochs != 1:
        raise ValueError(f"{who}, and epochs is {config.epochs}: set epochs=1")
    if getattr(config.loss, "reduction", "mean") != "mean":
        raise ValueError(f"{who} for the mean loss, and loss.reduction is sum: set loss.reduction=mean")
    if config.sampling != "uniform":
        raise ValueError(
            f"{who}, from every image once, and sampling is {config.sampling}: set sampling=uniform, and weights in "
            "the loss, such as loss.class_weights=inverse_frequency"
        )
    for name, neutral in OF_STEPS.items():
        value = getattr(config, name)
        if value != neutral:
            plain = "null" if neutral is None else neutral
            raise ValueError(f"{who}, without steps, and {name} is {value:g}: set {name}={plain}")
