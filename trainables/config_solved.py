"""A head that is solved in one go instead of trained, and what goes together with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainables.config_base import Part

if TYPE_CHECKING:
    from trainables.config import TrialConfig


class Lbfgs(Part):
    """Regularised logistic regression on kept features (see `solved_head.py`).

    l2: the strength, of mean loss + l2 / 2 * ||W||^2 on standardised features; None: chosen by cross-validation on the
    training images.
    """

    name: Literal["lbfgs"] = "lbfgs"
    l2: Annotated[float, Field(ge=1e-8, le=1e4)] | None = None


# What speaks of steps says nothing of a head that is solved: field -> the value that it must have.
OF_STEPS = {"ema_decay": None, "clip_grad_norm": None, "accumulate": 1, "repeat": 1, "least_epoch_images": None}


def check_solved(config: TrialConfig) -> None:
    """Raises ValueError where a configuration solves its head and cannot."""
    if not isinstance(config.optimizer, Lbfgs):
        return
    who = "optimizer lbfgs solves a linear head on kept features in one go"
    freeze = config.model.freeze
    if config.views is None or freeze != "all":  # `check_views` asks for the one where there is the other
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
    for name, neutral in OF_STEPS.items():
        value = getattr(config, name)
        if value != neutral:
            plain = "null" if neutral is None else neutral
            raise ValueError(f"{who}, without steps, and {name} is {value:g}: set {name}={plain}")
