"""What Ray sets aside for a trial. Alone, because workers import it, and the others bring pandas and Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune

NODE_ID = "ray.io/node-id"  # a label that Ray gives every machine


def resources_of(config: Mapping[str, Any], cpus: float = 0.0, gpus: float = 0.0) -> tune.PlacementGroupFactory:
    """cpus, gpus: of a trial that is not packed. A packed one has its share: a part of a GPU, or memory. Trials of the
    same one are trained by the same processes. avoid: ids of machines that the trial must not be trained on."""
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
