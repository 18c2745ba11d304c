"""Export of a soup: one ordinary model whose weights are the mean of several trials'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from analysis.models.export import find_trial, write_export
from analysis.models.soup import mean_weights
from trainables.config.io import parse_config
from trainables.targets import output_classes
from visionsweep.core.errors import RunError
from visionsweep.run_dir.files import epoch_name, weights_file
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import value_at


def write_soup(run: Run, soup: Mapping[str, Any], folder: Path) -> None:
    """Write the soup that `recommend` described to a new folder of `written_whole`.

    It has the configuration of its first member. Raises RunError if weights are gone or do not fit. Raises OSError.
    """
    files = []
    for member in soup["members"]:
        trial = find_trial(run, member["trial_id"])
        file = weights_file(run.run_dir, trial.trial_id, member["epoch"])
        if not file.is_file():
            raise RunError(
                f"{run.run_dir}: has not kept the weights of trial {trial.trial_id}, epoch {member['epoch']}, "
                "which its soup takes. `--single` exports the best trial alone."
            )
        files.append(file)
    first = find_trial(run, soup["members"][0]["trial_id"])
    config = parse_config(first.config, f"trial {first.trial_id}")
    about = {
        "run": run.run_dir.name,
        "soup": [f"{one['trial_id']}-{epoch_name(one['epoch'])}" for one in soup["members"]],
        "chosen_on": "the same validation images, on which these metrics look better than they are; see held_out",
        "held_out": soup["held_out"],
        **soup["metrics"],
    }
    classes = output_classes(config, value_at(run.search, "data.classes"))
    write_export(folder, config, classes, [], about, run.search["data"])
    weights = {name: one.contiguous() for name, one in mean_weights(files).items()}
    save_file(weights, folder / "model.safetensors")
