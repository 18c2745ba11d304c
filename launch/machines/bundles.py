"""What Ray sets aside for a packed trial. Alone, because workers import it, and the others bring pandas and Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune


def resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """By a trial's share: a part of a GPU, or memory. Trials of the same one are trained by the same processes."""
    share = config["share"]
    bundle = {"CPU": share["cpus"], "GPU": share["gpus"]}
    if not share["gpus"]:
        bundle["memory"] = float(int(share["memory_mb"] * 2**20))
    return tune.PlacementGroupFactory([bundle])
