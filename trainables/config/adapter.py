"""Adapters, trained in place of a transformer's own weights, and the settings that they go with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainables.config.base import Part

if TYPE_CHECKING:
    from trainables.config.model import ClassifierConfig


class Lora(Part):
    """Low-rank adapters on a transformer's attention and MLP (Hu et al. 2021, arXiv:2106.09685).

    alpha / rank times the product of two thin matrices is added to each weight. Only they and the head are trained.
    Kept epochs are plain networks with the adapters merged.
    """

    name: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Annotated[float, Field(gt=0, le=10_000)] = 16.0


def check_adapter(model: ClassifierConfig) -> None:
    """Raise ValueError if a classifier has an adapter but no trained layers to adapt."""
    if model.adapter is not None and model.freeze == "all":
        raise ValueError(
            "model.adapter adapts layers that are trained, and model.freeze is 'all': set model.freeze=none, or to "
            "a stage, or model.adapter=null"
        )
