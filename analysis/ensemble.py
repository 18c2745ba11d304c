"""Which of a run's kept models are better together than the best of them alone, and whether that is true.

An ensemble that is chosen on the validation images and judged on the same ones always looks better. So it is also
chosen on half of them and judged on the other half, several times, beside the model that is best alone on the first.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.load import Run
from analysis.rank import ranked
from analysis.shapes import ensemble_problem, value_at
from search_spaces.errors import RunError
from trainables.checkpoint import epoch_of
from trainables.config import TrialConfig
from trainables.config_io import parse_config
from trainables.data.loader import TrialData
from trainables.data.stratify import stratified_val, stratified_val_multilabel
from trainables.files import read_npz, read_object
from trainables.members import Members, greedy, label_members, pixel_members, threshold_of, together
from trainables.safe_path import trial_folder
from trainables.targets import output_classes, what_to_learn
from trainables.writing import write_whole

ENSEMBLE_FILE = "ensemble.json"
SPLITS = 5  # each gives two estimates: either half selects once
FEWEST_IMAGES = 8


@dataclass(frozen=True, eq=False)
class Kept:
    """A trial's epoch whose weights and predictions are kept; value: its score on the whole validation split."""

    trial_id: str
    epoch: int
    config: TrialConfig
    value: float
    predictions: dict[str, np.ndarray]


def choose_ensemble(run: Run, data: TrialData, size: int, num_trials: int | None = None) -> dict[str, Any]:
    """Choose, judge, and write to RUN/ensemble.json what is returned:

    metric, mode    what it was chosen by
    combine         mean probability, or vote (of segmenters: of their predictions only the decisions are kept)
    threshold       of the mean probability, for binary and multilabel decisions
    members         trial_id, epoch, weight (how often it was taken) and value (alone) of each; the first is the best
    metrics         on all validation images, on which it was also chosen
    single          the best model alone: trial_id, epoch, value, likewise
    held_out        on images that did not choose: `ensemble` and `single`, their means; `gain`, the mean difference
                    (positive is better), and its `deviation` over `estimates`
    better          whether the gain is larger than its deviation
    notes           sentences that a person should hear

    data: the run's own. num_trials: only of so many of the best trials. Raises RunError where fewer than two models are
    kept, or where their predictions are not those of this data.
    """
    notes: list[str] = []
    best_first, members, images = _side_by_side(run, data, _kept(run, num_trials), notes)
    if len(images) < FEWEST_IMAGES:
        raise RunError(
            f"{len(images)} validation images are too few to choose an ensemble and to judge it. {FEWEST_IMAGES} are "
            "the least: add some."
        )
    metric = _metric(run, best_first[0].config, notes)
    sign = 1 if run.mode == "max" or metric != run.metric else -1

    def value(metrics: dict[str, float]) -> float:
        return sign * metrics.get(metric.removeprefix("val/"), -sign * np.inf)

    estimates = []
    for first, second in _halves(data, images):
        for choosing, judging in ((first, second), (second, first)):
            chosen_by, judged_by = members.of_images(choosing), members.of_images(judging)
            chosen = greedy(chosen_by, value, metric.removeprefix("val/"), size)
            # The first that is taken is the one that is best alone.
            values = [together(judged_by, one, metric.removeprefix("val/")).get(metric) for one in (chosen, chosen[:1])]
            if None not in values:  # a rare class may be missing in a half
                estimates.append(values)
    chosen = greedy(members, value, metric.removeprefix("val/"), size)
    told = {
        "metric": metric,
        "mode": "max" if sign == 1 else "min",
        "combine": "vote" if value_at(run.search, "data.task") == "segmentation" else "mean probability",
        "threshold": threshold_of([best_first[member].config.threshold for member in chosen]),
        "members": [_named(best_first[member], count) for member, count in Counter(chosen).items()],
        "metrics": together(members, chosen),
        "single": _named(best_first[chosen[0]], 1),
        **_verdict(np.array(estimates, dtype=float), sign),
        "candidates": len(best_first),
        "notes": notes,
    }
    text = json.dumps(told, indent=1) + "\n"
    write_whole(run.run_dir / ENSEMBLE_FILE, lambda path: path.write_text(text))
    return told


def stored_ensemble(run_dir: Path) -> dict[str, Any] | None:
    """What was chosen last, or None."""
    path = run_dir / ENSEMBLE_FILE
    if not os.path.lexists(path):
        return None
    anew = f"`visionsweep ensemble {run_dir}` writes it anew."
    told = read_object(path, anew)
    problem = ensemble_problem(told) or next(
        (f"'{name}' is missing" for name in ("metric", "metrics", "held_out", "single", "better", "candidates", "notes")
         if name not in told), None
    )  # fmt: skip
    if problem is not None:
        raise RunError(f"{path}: is damaged ({problem}). {anew}")
    return told


def _kept(run: Run, num_trials: int | None) -> list[Kept]:
    """Every kept epoch of the best trials that have one, the best epoch first."""
    found: list[Kept] = []
    trials = 0
    for trial in ranked(run.trials, run.objectives):
        values = trial.values(run.metric)
        epochs = [
            epoch
            for path in sorted(trial_folder(run.run_dir, "predictions", trial.trial_id).glob("epoch-*.npz"))
            if (epoch := epoch_of(path)) in values and weights_of(run, trial.trial_id, epoch).is_file()
        ]
        if not epochs:
            continue
        config = parse_config(trial.config, f"trial {trial.trial_id}")
        found += [
            Kept(trial.trial_id, one, config, values[one], _predictions(run, trial.trial_id, one)) for one in epochs
        ]
        trials += 1
        if trials == num_trials:
            break
    if len(found) < 2:
        raise RunError(
            f"{run.run_dir}: keeps {len(found)} models, and an ensemble takes two. Search with a larger --keep-trials, "
            "or with --set keep_best=3, which keeps three epochs of each trial."
        )
    sign = 1 if run.mode == "max" else -1
    return sorted(found, key=lambda one: -sign * one.value)


def weights_of(run: Run, trial_id: str, epoch: int) -> Path:
    """The file of an epoch's weights, whether it is there or not."""
    return trial_folder(run.run_dir, "checkpoints", trial_id) / f"epoch-{epoch:04d}.safetensors"


def _predictions(run: Run, trial_id: str, epoch: int) -> dict[str, np.ndarray]:
    arrays = read_npz(trial_folder(run.run_dir, "predictions", trial_id) / f"epoch-{epoch:04d}.npz")
    return {name: array for name, array in arrays.items() if name != "metrics"}


def _side_by_side(
    run: Run, data: TrialData, kept: list[Kept], notes: list[str]
) -> tuple[list[Kept], Members, np.ndarray]:
    """The models that predict the same classes, their predictions, and the positions of the validation images."""
    dataset, config = data.dataset, kept[0].config
    images = dataset.indices("val")
    classes = output_classes(config, dataset.classes)
    alike = [one for one in kept if output_classes(one.config, dataset.classes) == classes]
    if len(alike) < len(kept):
        notes.append(f"{len(kept) - len(alike)} models merge the classes in another way than the best, and stay out.")
    for one in alike:
        num = len(one.predictions["shapes" if dataset.task == "segmentation" else "logits"])
        if num != len(images):
            raise RunError(
                f"trial {one.trial_id}, epoch {one.epoch}: has predictions of {num} validation images, and the data "
                f"has {len(images)}. Restore the data as it was."
            )
    if dataset.task == "segmentation":
        _, merge, _ = what_to_learn(config, data)
        truths = (merge.table[data.images.mask(int(position))] for position in images)  # type: ignore[union-attr]
        return alike, pixel_members(classes, [one.predictions["masks"] for one in alike], truths), images
    logits = [one.predictions["logits"] for one in alike]
    thresholds = [one.config.threshold for one in alike]
    return alike, label_members(dataset.task, classes, logits, dataset.targets[images], thresholds), images


def _metric(run: Run, config: TrialConfig, notes: list[str]) -> str:
    if config.task != "segmentation" or run.metric != "val/loss":
        return run.metric
    notes.append("Votes have no val/loss, by which the run compares its trials: the ensemble is chosen by val/miou.")
    return "val/miou"


def _halves(data: TrialData, images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions among the validation images: two halves that show every class alike, drawn with seeds 0, 1, ..."""
    targets = data.dataset.targets[images]
    found = []
    for seed in range(SPLITS):
        if targets.ndim == 2:  # tags, or how many pixels of each class
            in_second = stratified_val_multilabel((targets > 0).astype(np.uint8), 0.5, seed)
        else:
            in_second = stratified_val(targets, 0.5, seed)
        found.append((np.flatnonzero(~in_second), np.flatnonzero(in_second)))
    return found


def _named(kept: Kept, weight: int) -> dict[str, Any]:
    return {"trial_id": kept.trial_id, "epoch": kept.epoch, "weight": weight, "value": kept.value}


def _verdict(estimates: np.ndarray, sign: int) -> dict[str, Any]:
    """estimates (n, 2): the ensemble's score on the held-out half and the single model's."""
    if len(estimates) < 2:
        return {"held_out": None, "better": False}
    gains = sign * (estimates[:, 0] - estimates[:, 1])
    gain, deviation = float(gains.mean()), float(gains.std(ddof=1))
    means = {"ensemble": float(estimates[:, 0].mean()), "single": float(estimates[:, 1].mean())}
    held_out = {**means, "gain": gain, "deviation": deviation, "estimates": len(gains)}
    return {"held_out": held_out, "better": gain > deviation}
