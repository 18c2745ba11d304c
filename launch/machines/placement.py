"""Placement: what Ray reserves for a trial.

A module of its own because workers import it, and its neighbours import pandas and Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune

NODE_ID = "ray.io/node-id"  # Ray's label of a machine


def resources_of(config: Mapping[str, Any], cpus: float = 0.0, gpus: float = 0.0) -> tune.PlacementGroupFactory:
    """Return the placement of a trial. Trials with equal placements are trained by the same processes.

    config      of the trial: with "share" where trials are packed, a part of a GPU or memory;
                with "avoid" the ids of machines where the trial must not run
    cpus, gpus  of an unpacked trial
    """
    bundle = {"CPU": cpus, "GPU": gpus}
    if "share" in config:
        share = config["share"]
        bundle = {"CPU": share["cpus"], "GPU": share["gpus"]}
        if not share["gpus"]:
            bundle["memory"] = float(int(share["memory_mb"] * 2**20))
    if not config.get("avoid"):
        return tune.PlacementGroupFactory([bundle])
    return tune.PlacementGroupFactory(
        [bundle], bundle_label_selector=[{NODE_ID: f"!in({','.join(sorted(config['avoid']))})"}]
    )
