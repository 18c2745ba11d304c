"""Refit of exported probes: their heads are solved again with the validation images among the training images.

After a search these images choose nothing any more, and a fifth more photos make a better head. The GridSearchCV of
scikit-learn also refits its choice on everything. The features of both splits are cached already.

RUN/recommended.safetensors holds the heads, `TRIAL/head...`. Reported scores stay those of the heads before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from analysis.models.kept import Kept
from trainables.config.solved import Lbfgs
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.ensemble import model_with, read_weights
from trainables.features.features import frozen_backbone, images_learnt
from trainables.features.probe import solve_epoch
from trainables.losses import build_loss
from trainables.targets import classes_and_labels
from visionsweep.core.errors import RunError
from visionsweep.core.writing import write_whole
from visionsweep.run_dir.files import weights_file
from visionsweep.run_dir.recommended import HEADS_FILE
from visionsweep.run_dir.run import Run

LEARN_FROM = ("train", "val")


@dataclass(frozen=True, eq=False)
class Heads:
    """Heads that were solved again, by trial, and their entry in recommended.json (see `solve_again`)."""

    by_trial: Mapping[str, Mapping[str, Tensor]]
    told: Mapping[str, Any]

    def put(self, trial_id: str, weights: Path) -> None:
        """Replace the head in a copy of a trial's weights. Other trials' weights stay as they are."""
        head = self.by_trial.get(trial_id)
        if head is not None:
            save_file({**load_file(weights), **head}, weights)

    def about(self, trial_ids: Sequence[str]) -> dict[str, Any]:
        """Return what an export of these trials says in metrics.json, empty if none was solved again."""
        again = [trial_id for trial_id in trial_ids if trial_id in self.by_trial]
        counts = {"images": self.told["images"], "judged_on": self.told["judged_on"]}
        return {"solved_again": {"trials": again, **counts}} if again else {}


def solve_again(
    run: Run, data: TrialData, members: Sequence[Kept], device: torch.device, ask: Callable[[], None]
) -> dict[str, Any] | None:
    """Solve the heads of the probes among `members`, write them, and return their entry in recommended.json.

        trials               whose heads they are
        images, judged_on    numbers of images that the heads learned from, and that the scores are of
        data                 the data as a refit on train and val describes it (see `Dataset.describe`)

    The entry is None if no member is a probe. `ask` raises to stop, and nothing is written then.
    """
    probes = {one.trial_id: one for one in members if isinstance(one.config.optimizer, Lbfgs)}
    if not probes:
        return None
    found: dict[str, Tensor] = {}
    for trial_id, one in probes.items():
        weights = weights_file(run.run_dir, trial_id, one.epoch)
        found |= {
            f"{trial_id}/{name}": tensor for name, tensor in _head(one.config, weights, data, device, ask).items()
        }
    write_whole(run.run_dir / HEADS_FILE, lambda path: save_file(found, path))
    joined = data.dataset.with_val_trained_on()
    learnt = [
        {*images_learnt(one.config, data.dataset, split).tolist()} for one in probes.values() for split in LEARN_FROM
    ]
    counts = {"images": len(set.union(*learnt)), "judged_on": len(data.dataset.indices("val"))}
    return {"trials": sorted(probes), **counts, "data": joined.describe()}


def heads_of(run_dir: Path, recommended: Mapping[str, Any] | None) -> Heads | None:
    """Return the heads that a run's recommendation refers to. Raises RunError if they are gone or damaged."""
    again = None if recommended is None else recommended.get("solved_again")
    if again is None:
        return None
    path = run_dir / HEADS_FILE
    try:
        found = load_file(path)
    except Exception as error:
        raise RunError(
            f"{path}: cannot be read ({type(error).__name__}). `visionsweep export {run_dir} --single --out DIR` "
            "exports the best trial without it."
        ) from None
    by_trial: dict[str, dict[str, Tensor]] = {trial_id: {} for trial_id in again["trials"]}
    for name, tensor in found.items():
        trial_id, _, rest = name.partition("/")
        by_trial.setdefault(trial_id, {})[rest] = tensor
    return Heads(by_trial, again)


def _head(
    config: TrialConfig, weights: Path, data: TrialData, device: torch.device, ask: Callable[[], None]
) -> dict[str, Tensor]:
    """Solve a trial's head and return its tensors on the CPU, by their names in the whole model.

    `weights` is the file of the trial's weights.
    """
    ask()
    assert isinstance(config.optimizer, Lbfgs)
    classes, labels, _ = classes_and_labels(config, data)
    assert isinstance(labels, Tensor)
    rows = np.concatenate([images_learnt(config, data.dataset, split) for split in LEARN_FROM])
    model = model_with(read_weights(weights), config, len(classes), device, weights)
    loss = build_loss(config, data.dataset.targets[rows], len(classes)).to(device)
    frozen = frozen_backbone(config, model, data, device, ask=ask)
    assert frozen is not None
    solve_epoch(config.optimizer, frozen, labels, loss, ask, LEARN_FROM)
    solved = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("head.")}
    return {name: tensor.cpu().contiguous() for name, tensor in solved.items()}
