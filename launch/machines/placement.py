"""Placement: what Ray reserves for a trial, and tasks on a machine of one's choice.

A module of its own because workers import it, and its neighbours import pandas and Optuna.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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


def task_on(node_id: str, function: Callable[..., Any]) -> Any:
    """Return a Ray task that runs on one machine or not at all, beside the trials. Start it with its `remote`."""
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(function)
