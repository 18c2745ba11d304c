"""An ensemble of several trials' models as an export, which `predict` takes like any other.

config.yaml, classes.txt, metrics.json, data.json    as of one model; the configuration is the first member's
ensemble.json                                        how the members are combined, and their weights
members/TRIAL-epoch-NNNN/                            config.yaml and model.safetensors of each
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.ensemble import ENSEMBLE_FILE, weights_of
from analysis.export import MEMBERS, write_export
from analysis.load import Run
from analysis.predict import ExportedModel
from search_spaces.errors import RunError
from trainables.config import TrialConfig
from trainables.config_io import dump_config, load_config, parse_config
from trainables.ensemble import load_models
from trainables.members import FIRST_VOTE
from trainables.targets import output_classes

COMBINE = ("mean probability", "vote")


@dataclass(frozen=True)
class ExportedEnsemble:
    """The members of an export, the first the best alone, ready to predict. Like `ExportedModel` to those who predict:
    config is the first member's, with the ensemble's threshold."""

    config: TrialConfig
    classes: tuple[str, ...]
    members: tuple[ExportedModel, ...]
    weights: tuple[float, ...]

    def probabilities(self, images: Iterable[np.ndarray]) -> Tensor:
        """Images (H, W, 3) uint8 of any sizes -> (N, K) float32 on the CPU, the members' weighted mean."""
        listed = list(images)
        return self.mean([member.probabilities(listed) for member in self.members])

    def mean(self, each: Sequence[Tensor]) -> Tensor:
        """Of the members' probabilities (N, K), weighted."""
        return torch.stack([weight * one for weight, one in zip(self.weights, each, strict=True)]).sum(0) / sum(
            self.weights
        )

    def masks(self, images: Sequence[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
        """Images (H, W, 3) uint8 -> (H, W) uint8 class numbers of each in turn."""
        yield from map(self.vote, zip(*(member.masks(images) for member in self.members), strict=True))

    def vote(self, decided: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        """What most members see, by weight, of their class numbers of the same pixels; where they are split evenly, the
        first one's."""
        votes = np.zeros((len(self.classes), *decided[0].shape), np.float32)
        for number, (mask, weight) in enumerate(zip(decided, self.weights, strict=True)):
            vote = weight + (FIRST_VOTE if number == 0 else 0.0)
            for one in np.unique(mask):
                votes[one][mask == one] += vote
        winner: npt.NDArray[np.uint8] = votes.argmax(axis=0).astype(np.uint8)
        return winner


def export_ensemble(run: Run, told: Mapping[str, Any], out: Path) -> None:
    """Write what `choose_ensemble` told. Raises RunError where its weights are gone, or `out` cannot be written."""
    files, configs = [], []
    trials = {trial.trial_id: trial for trial in run.trials}
    for member in told["members"]:
        file = weights_of(run, member["trial_id"], member["epoch"])
        if not file.is_file() or member["trial_id"] not in trials:
            raise RunError(
                f"{run.run_dir}: has not kept the weights of trial {member['trial_id']}, epoch {member['epoch']}, "
                f"since its ensemble was chosen. `visionsweep ensemble {run.run_dir}` chooses anew."
            )
        files.append(file)
        configs.append(parse_config(trials[member["trial_id"]].config, f"trial {member['trial_id']}"))
    named = [{**one, "folder": f"{one['trial_id']}-epoch-{one['epoch']:04d}"} for one in told["members"]]
    about = {
        "run": run.run_dir.name,
        "members": {one["folder"]: one["weight"] for one in named},
        "chosen_on": "the same validation images, on which these metrics look better than they are; see held_out",
        "held_out": told["held_out"],
        **told["metrics"],
    }
    classes = output_classes(configs[0], run.search["data"]["classes"])
    write_export(out, configs[0], classes, [], about, run.search["data"])
    try:
        kept = {key: told[key] for key in ("combine", "threshold", "metric")}
        (out / ENSEMBLE_FILE).write_text(json.dumps({**kept, "members": named}, indent=1) + "\n")
        for config, file, one in zip(configs, files, named, strict=True):
            folder = out / MEMBERS / one["folder"]
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(dump_config(config))
            shutil.copyfile(file, folder / "model.safetensors")
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}). Choose another --out.") from None


def load_ensemble(export_dir: Path, classes: tuple[str, ...], device: torch.device, flips: bool) -> ExportedEnsemble:
    """Load what `export_ensemble` wrote. Raises RunError where it is damaged or incomplete."""
    try:
        told = json.loads((export_dir / ENSEMBLE_FILE).read_text())
        combine, threshold = str(told["combine"]), float(told["threshold"])
        # By its last part: a list that somebody else wrote does not lead out of the export.
        folders = [export_dir / MEMBERS / Path(one["folder"]).name for one in told["members"]]
        weights = tuple(float(one["weight"]) for one in told["members"])
        if combine not in COMBINE or not weights or min(weights) <= 0:
            raise ValueError
    except (ValueError, LookupError, TypeError):
        raise RunError(f"{export_dir / ENSEMBLE_FILE}: is damaged. Export the ensemble anew.") from None
    members = []
    for folder in folders:
        config = load_config(folder / "config.yaml")
        file = folder / "model.safetensors"
        if not file.is_file():
            raise RunError(f"{folder}: has no {file.name}. Export the ensemble anew.")
        members.append(ExportedModel(config, classes, load_models(config, len(classes), [file], device), device, flips))
    first = members[0].config.model_copy(update={"threshold": threshold})
    return ExportedEnsemble(first, classes, tuple(members), weights)
