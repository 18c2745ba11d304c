"""`visionsweep refit --folds K`: a trial's score as the mean over folds, each judged by a model that has not seen it.

RUN/refits/TRIAL[-epochs-N]-folds-K/fold-F/          an export, trained without fold F
RUN/refits/TRIAL[-epochs-N]-folds-K/refits.json      metric, values by fold, mean, deviation, interval
RUN/refits/TRIAL[-epochs-N]-folds-K/out-of-fold.npz  see `trainables/out_of_fold.py`
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from scipy.stats import t as student_t

from launch.models.refit_data import finished
from launch.models.train import train_on
from trainables.config.trial import TrialConfig
from trainables.data.folds import of_fold, with_folds
from trainables.data.loader import TrialData
from trainables.out_of_fold import write_out_of_fold
from visionsweep.core.files import read_npz
from visionsweep.core.writing import write_whole
from visionsweep.run_dir.files import OUT_OF_FOLD_FILE
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.trials import Trial

CONFIDENCE = 0.95


def cross_validate(
    run: Run, trial: Trial, config: TrialConfig, data: TrialData, num_folds: int, folder: Path, console: Console
) -> dict[str, Any]:
    """Train a configuration once for each fold of the run's train and val, and return what `refits.json` says.

        trial      whose configuration it is, perhaps of other epochs
        data       the run's own
        num_folds  2 or more
        folder     of the result. Folds that are finished there are not trained again

    Raises DataError if the data has too few images for so many folds.
    """
    options = value_at(run.search, "options")
    dataset = with_folds(data.dataset, num_folds, options.get("seed", 0))
    assert dataset.folds is not None
    console.print(f"{num_folds} folds over the {(dataset.folds > 0).sum():,} images of train and val.", soft_wrap=True)
    folder.mkdir(parents=True, exist_ok=True)
    of_folds = [TrialData(of_fold(dataset, fold), data.images) for fold in range(1, num_folds + 1)]
    outs = [folder / f"fold-{fold}" for fold in range(1, num_folds + 1)]
    parts = [out.with_suffix(".npz") for out in outs]  # their predictions, until all of them are there
    before = [finished(out, of) for out, of in zip(outs, of_folds, strict=True)]
    if None in before or not (folder / OUT_OF_FOLD_FILE).is_file():
        before = [done if part.is_file() else None for done, part in zip(before, parts, strict=True)]
    metrics = []
    for fold, (of, out, part, done) in enumerate(zip(of_folds, outs, parts, before, strict=True), start=1):
        console.print(f"Trial {trial.trial_id} without fold {fold} of {num_folds}:", style="bold")
        if done is not None:
            console.print(f"Trained before: {out}", soft_wrap=True)
        metrics.append(done or train_on(config, of, out, run.metric, console, predictions=part))
    if all(part.is_file() for part in parts):
        write_out_of_fold(folder / OUT_OF_FOLD_FILE, dataset, [read_npz(part) for part in parts])
        for part in parts:
            part.unlink()
    found = summary_of_folds(trial, run, [one.get(run.metric) for one in metrics], config.epochs)
    text = json.dumps(found, indent=1) + "\n"
    write_whole(folder / "refits.json", lambda path: path.write_text(text))
    return found


def summary_of_folds(trial: Trial, run: Run, values: Sequence[float | None], epochs: int) -> dict[str, Any]:
    """Return the value of each fold, their mean and deviation, and the interval of the mean.

    These are None if no fold has a value of the run's metric.
    """
    given = [value for value in values if value is not None]
    best = trial.best(run.metric, run.mode)
    return {
        "trial_id": trial.trial_id,
        "metric": run.metric,
        "folds": len(values),
        "epochs": epochs,
        "values": {str(fold): value for fold, value in enumerate(values, start=1)},
        "mean": statistics.mean(given) if given else None,
        "deviation": statistics.stdev(given) if len(given) > 1 else None,
        "interval": interval_of(given, run.metric),
        "trial_value": best[0] if best is not None else None,
    }


def interval_of(values: Sequence[float], metric: str) -> list[float] | None:
    """Return a 95% interval of a mean over folds, or None for fewer than two.

    Trainings of different folds share most of their images, so the plain standard error is too small. It is corrected
    by the ratio of judged to trained images (Nadeau & Bengio 2003, "Inference for the generalization error").
    """
    num = len(values)
    if num < 2:
        return None
    mean = statistics.mean(values)
    error = statistics.stdev(values) * math.sqrt(1 / num + 1 / (num - 1))
    half = float(student_t.ppf((1 + CONFIDENCE) / 2, num - 1)) * error
    most = math.inf if metric == "val/loss" else 1.0
    return [max(0.0, mean - half), min(most, mean + half)]


def folds_in_words(found: dict[str, Any]) -> str:
    """Return what the folds gave."""
    metric = found["metric"]
    if found["mean"] is None or found["deviation"] is None:
        return f"Trial {found['trial_id']}, {found['folds']} folds: too few of them have a value of {metric}."
    low, high = found["interval"]
    sentence = (
        f"Trial {found['trial_id']}, {found['folds']} folds: {metric} {found['mean']:.4f} ± {found['deviation']:.4f}, "
        f"95% interval of the mean {low:.4f} to {high:.4f}"
    )
    return sentence + ("." if found["trial_value"] is None else f"; in the search it gave {found['trial_value']:.4f}.")
