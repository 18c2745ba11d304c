"""Export of a trial: a folder with everything that is needed to use or retrain its model.

config.yaml          the configuration, which `visionsweep train` accepts
model.safetensors    the weights of the trial's best epoch; of an ensemble model-1.safetensors and so on
classes.txt          one class a line, in the order of the outputs
metrics.json         of that epoch, or of the epochs' mean prediction, on the validation split; and the `precision`
                     that was computed in, where the hardware lacked the configuration's
data.json            the fingerprint of data and split
README.md, requirements.txt, model.onnx, model.pt2: see `package.py`
manifest.json        the digests of all these: see `manifest.py`

An ensemble of several trials has its members in folders of their own instead: see `ensemble_export.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from analysis.models.manifest import written_whole
from analysis.models.open_run_data import open_run_data
from analysis.models.solved_again import Heads
from trainables.checkpoint import TrialFiles
from trainables.config.io import dump_config, parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import cached_short_side
from trainables.ensemble import evaluate_files
from trainables.targets import output_classes
from visionsweep.core.errors import InputError, RunError
from visionsweep.run_dir.files import trials_with_weights, weights_file
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.trials import Trial, no_such_trial

MEMBERS = "members"


@dataclass(frozen=True)
class Exported:
    """The trial and epochs that were exported. `note` says why an ensemble of epochs has no metrics."""

    trial_id: str
    epochs: list[int]
    note: str = ""


def export_trial(run: Run, out: Path, trial_id: str | None = None) -> Exported:
    """Write the best trial, or the named one, to the folder `out`, whole or not at all. Raises RunError."""
    with written_whole(out) as folder:
        return write_trial(run, folder, trial_id)


def write_trial(
    run: Run, folder: Path, trial_id: str | None = None, data: str | None = None, heads: Heads | None = None
) -> Exported:
    """Write the best trial, or the named one, to a new folder of `written_whole`. Raises RunError or OSError.

    `data` is the user's path of the run's data, None means the path in the run. `heads` were solved again, or are None.
    """
    trial = find_trial(run, trial_id)
    config = parse_config(trial.config, f"trial {trial.trial_id}")
    epochs = _epochs(run, trial, config)
    rows = {row["epoch"]: row["metrics"] for row in trial.epochs}
    about: dict[str, Any] = {"run": run.run_dir.name, "trial_id": trial.trial_id, "status": trial.status}
    used = {row.get("precision", config.precision) for row in trial.epochs} - {config.precision, None}
    if used:  # some or all machines lacked the configuration's precision
        about["precision"] = " and ".join(sorted(used))
    best = trial.best(run.metric, run.mode)
    if best is not None and trial.num_folds > 1:  # the scores below are those of the first fold
        about["folds"] = {"number": trial.num_folds, run.metric: best[0], "deviation": trial.deviation}
    weights = [weights_file(run.run_dir, trial.trial_id, epoch) for epoch in epochs]
    metrics = rows[epochs[0]]
    note = ""
    if len(epochs) > 1:
        try:
            judged_on = open_run_data(run, cached_short_side(config), data)
            metrics = evaluate_files(config, weights, judged_on, torch.device("cpu"))
        except InputError as error:
            metrics = {}
            note = f"The mean prediction of epochs {epochs} could not be judged: {error}"
    which = {"epoch": epochs[0]} if len(epochs) == 1 else {"epochs": epochs}
    classes = output_classes(config, value_at(run.search, "data.classes"))
    about |= {} if heads is None else heads.about([trial.trial_id])
    described = run.search["data"] if heads is None else heads.told["data"]
    write_export(folder, config, classes, weights, {**about, **which, **metrics}, described)
    if heads is not None:
        heads.put(trial.trial_id, folder / "model.safetensors")
    return Exported(trial.trial_id, epochs, note)


def _epochs(run: Run, trial: Trial, config: TrialConfig) -> list[int]:
    """Return the epochs to export, best first."""
    best = trial.best(run.metric, run.mode)
    epochs = [] if best is None else [best[1]]
    if config.ensemble > 1:
        epochs = TrialFiles.below(run.run_dir, trial.trial_id, run.metric, run.mode, config).averaged()
    if not epochs or not all(weights_file(run.run_dir, trial.trial_id, epoch).is_file() for epoch in epochs):
        having = trials_with_weights(run.run_dir)
        why = "has no finished epoch" if best is None else f"ended {trial.status}, and its weights were not kept"
        raise RunError(f"trial {trial.trial_id} {why}. Trials with weights: {', '.join(having) or 'none yet'}.")
    return epochs


def write_export(
    folder: Path,
    config: TrialConfig,
    classes: Sequence[str],
    weights: Sequence[Path],
    metrics: Mapping[str, Any],
    data: Mapping[str, Any],
) -> None:
    """Write the files of an export to a new folder of `written_whole`. Raises OSError.

    `weights` are the files of the model's epochs, best first. An ensemble has none, because its members have their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(config))
    for number, file in enumerate(weights, start=1):
        name = "model.safetensors" if len(weights) == 1 else f"model-{number}.safetensors"
        shutil.copyfile(file, folder / name)
    (folder / "classes.txt").write_text(
        "".join(f"{name}\n" for name in classes), encoding="utf-8", errors="surrogateescape"
    )
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (folder / "data.json").write_text(json.dumps(data, indent=1, default=str) + "\n")


def find_trial(run: Run, trial_id: str | None) -> Trial:
    """Return the named trial, or the best one. Raises RunError if there is none."""
    if not run.trials:
        raise RunError(f"{run.run_dir}: has no trials yet. Wait for the first one, or resume the run.")
    if trial_id is None:
        return ranked(run.trials, run.objectives)[0]
    wanted = trial_id.zfill(4)  # 7 is 0007
    for trial in run.trials:
        if trial.trial_id == wanted:
            return trial
    raise no_such_trial(run.run_dir, trial_id, [trial.trial_id for trial in run.trials])
