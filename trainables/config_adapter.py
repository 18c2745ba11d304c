"""Adapters: what is trained in place of a transformer's own weights, and what goes together with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainables.config_base import Part

if TYPE_CHECKING:
    from trainables.config_model import ClassifierConfig


class Lora(Part):
    """Low-rank adapters on a transformer's attention and MLP (Hu et al. 2021, arXiv:2106.09685).

    alpha / rank times the product of two thin matrices is added to each weight. Only they and the head are trained, and
    what is kept of a training is a plain network with them added.
    """

    name: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Annotated[float, Field(gt=0, le=10_000)] = 16.0


def check_adapter(model: ClassifierConfig) -> None:
    """Raises ValueError where a classifier has an adapter and nothing that it could adapt."""
    if model.adapter is not None and model.freeze == "all":
        raise ValueError(
            "model.adapter adapts layers that are trained, and model.freeze is 'all': set model.freeze=none, or to "
            "a stage, or model.adapter=null"
        )
