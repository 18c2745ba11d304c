"""`visionsweep refit`: train a trial again with other seeds, to see what it gives on average.

A search keeps the best of many trials, and the best of many is partly luck. Each refit is what `train` writes, in

    RUN/refits/TRIAL[-epochs-N][-train+val]/seed-S/     an export
    RUN/refits/TRIAL[-epochs-N][-train+val]/refits.json what they gave: metric, values by seed, mean, deviation
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.models.export import find_trial
from launch.models.cross_validation import cross_validate, folds_in_words
from launch.models.refit_data import finished
from launch.models.run_data import data_of_run
from launch.models.train import train_on
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.data.read_as import check_folds
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import did_you_mean, mode_of
from visionsweep.core.objectives import sign_of
from visionsweep.core.writing import write_whole
from visionsweep.run_dir.files import OUT_OF_FOLD_FILE
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

ON = ("train", "train+val")
SEEDS = 3
# What needs the validation split's scores, with the values that turn it off.
NEED_VAL = {"early_stopping_patience": None, "ensemble": 1}
LUCK = 2.0  # deviations above the mean of its refits from which a trial is called lucky


def refit(
    run_dir: Path,
    trial_id: str | None,
    num_seeds: int | None,
    epochs: int | None,
    on: str,
    console: Console,
    named: str | None = None,
    num_folds: int | None = None,
) -> dict[str, Any]:
    """Train the best trial, or the named one, with the seeds after the run's own. Refits that are there are kept.

        trial_id   None: the best trial
        num_seeds  trainings, each with a seed of its own; None: SEEDS
        epochs     None: the trial's own
        on         train, or train+val
        named      where the user says that the data is, None: where the run says
        num_folds  instead of seeds: once for each fold, with the trial's own seed (`cross_validation.py`)

    Return what refits.json says. Raises ConfigError for another `on`, or for folds with seeds. Raises RunError if there
    is no such trial or the data has changed.
    """
    check_folds(num_folds)
    if num_folds is not None and (num_seeds is not None or on != "train"):
        other = f"--seeds {num_seeds}" if num_seeds is not None else f"--on {on}"
        raise ConfigError(f"refit takes --folds or {other.split()[0]}, got --folds {num_folds} and {other}. Leave one.")
    num_seeds = num_seeds or SEEDS
    if on not in ON:
        raise ConfigError(f"--on takes {' or '.join(ON)}, got '{on}'. {did_you_mean(on, ON)}")
    # Settle what is trained, on which images, and which split judges it.
    run = load_run(run_dir)
    trial = find_trial(run, trial_id)
    changed = {} if epochs is None else {"epochs": epochs}
    config = parse_config({**trial.config, **changed}, f"trial {trial.trial_id}")
    data = data_of_run(run, named)
    if num_folds is not None:
        parts = [trial.trial_id, *([f"epochs-{epochs}"] if epochs else []), f"folds-{num_folds}"]
        folder = run_dir / "refits" / "-".join(parts)
        found_by_fold = cross_validate(run, trial, config, data, num_folds, folder, console)
        console.print(folds_in_words(found_by_fold), style="bold green", soft_wrap=True)
        console.print(f"Predictions of every image: {folder / OUT_OF_FOLD_FILE}", soft_wrap=True)
        console.print(f"Models, each an export: {folder}/fold-*", soft_wrap=True)
        return found_by_fold
    if on == "train+val":
        config, data = _with_val(config, data, console)
    has_test = len(data.dataset.indices("test")) > 0 and not data.dataset.kept_back
    judged_on = "val" if on == "train" else "test" if has_test else None
    metric = run.metric.replace("val/", f"{judged_on}/")
    # Train each seed in a folder of its own. A finished refit is not repeated.
    parts = [trial.trial_id, *([f"epochs-{epochs}"] if epochs else []), *([on] if on != "train" else [])]
    folder = run_dir / "refits" / "-".join(parts)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[int, dict[str, Any]] = {}
    for seed in range(config.seed + 1, config.seed + 1 + num_seeds):
        out = folder / f"seed-{seed}"
        console.print(f"Trial {trial.trial_id} with seed {seed} ({len(found) + 1} of {num_seeds}):", style="bold")
        done = finished(out, data)
        if done is not None:
            console.print(f"Trained before: {out}", soft_wrap=True)
        found[seed] = done or train_on(config.model_copy(update={"seed": seed}), data, out, run.metric, console)
    # Write and print what the refits gave.
    refits = summary(trial, run, metric, {seed: values.get(metric) for seed, values in found.items()}, bool(changed))
    refits |= {"on": on, "epochs": config.epochs}
    if data.dataset.kept_back:
        refits["kept_back"] = True
    text = json.dumps(refits, indent=1) + "\n"
    write_whole(folder / "refits.json", lambda path: path.write_text(text))
    console.print(in_words(refits), style="bold green", soft_wrap=True)
    console.print(f"Models, each an export: {folder}/seed-*", soft_wrap=True)
    return {**refits, "values": {str(seed): value for seed, value in refits["values"].items()}}  # as in the file


def summary(trial: Trial, run: Run, metric: str, values: dict[int, float | None], changed: bool) -> dict[str, Any]:
    """Return the values of the refits by seed, and their mean.

    The mean is None if nothing was judged. The deviation is that of one training, from the values of the seeds.
    """
    given = [value for value in values.values() if value is not None]
    best = trial.best(run.metric, run.mode)
    refits: dict[str, Any] = {"trial_id": trial.trial_id, "metric": metric, "values": values}
    refits["mean"] = statistics.mean(given) if given else None
    refits["deviation"] = statistics.stdev(given) if len(given) > 1 else None
    # With other epochs or images it is another experiment than the trial's own.
    # With folds the value of the first one: refits have that split.
    own = None if best is None else trial.values(run.metric)[best[1]]
    refits["trial_value"] = own if not changed and metric == run.metric else None
    return refits


def in_words(refits: dict[str, Any]) -> str:
    """Return what the refits gave, and whether the trial was lucky."""
    metric = refits["metric"]
    mean = refits["mean"]
    deviation = refits["deviation"]
    own = refits["trial_value"]
    num = len(refits["values"])
    if mean is None and refits.get("kept_back"):
        return (
            f"{num} trainings on train+val: the test split is kept back, so there is no score, and the last epoch of "
            "each is kept. `visionsweep evaluate MODEL --split test` judges one of them."
        )
    if mean is None:
        return (
            f"{num} trainings on train+val: no image is left that could judge them, so there is no score, and the last "
            "epoch of each is kept. `--on train` is judged on val."
        )
    spread = "" if deviation is None else f" ± {deviation:.4f}"
    sentence = f"Trial {refits['trial_id']}, {num} seed{'s' if num > 1 else ''}: {metric} {mean:.4f}{spread}"
    if own is None:
        return f"{sentence}."
    ahead = (own - mean) * sign_of(mode_of(metric))
    sentence += f"; in the search it gave {own:.4f}"
    if not deviation:
        return f"{sentence}."
    if ahead > LUCK * deviation:
        return f"{sentence}, {ahead / deviation:.1f} deviations better: luck had a part in that."
    return (
        f"{sentence}, within what another seed gives."
        if ahead > -LUCK * deviation
        else f"{sentence}: it was unlucky there."
    )


def _with_val(config: TrialConfig, data: TrialData, console: Console) -> tuple[TrialConfig, TrialData]:
    """Return the configuration without what needs validation scores, and the data with its val images trained on."""
    dropped = [f"{name} {getattr(config, name)}" for name, none in NEED_VAL.items() if getattr(config, name) != none]
    if dropped:
        console.print(
            f"Without a validation split there is no {' and no '.join(dropped)}: every training goes through all "
            f"{config.epochs} epochs, and its last one is kept.",
            style="yellow",
            soft_wrap=True,
        )
    config = config.model_copy(update=NEED_VAL)
    return config, TrialData(data.dataset.with_val_trained_on(), data.images)
