"""Choice of an ensemble among a run's kept models, and whether it is better than the best of them alone.

An ensemble that is chosen and judged on the same validation images always looks better. So one is also chosen on half
of them and judged on the other half, several times. It is compared with the model that is best alone on the first half.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.models.ensemble_selection import Members, PixelMembers, score_ensemble, select_members, threshold_of
from analysis.models.export_folder import ENSEMBLE_FILE
from analysis.models.folded import folded
from analysis.models.held_out import FEWEST_IMAGES, halves
from analysis.models.kept import Kept, alike, kept_models, side_by_side, with_out_of_fold
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_object
from visionsweep.core.tasks import task_kind
from visionsweep.core.writing import write_whole
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import ensemble_problem


@dataclass(frozen=True)
class Yardstick:
    """The metric by which models are compared. sign: 1 where more is better, -1 where less is."""

    metric: str
    sign: int

    @property
    def name(self) -> str:
        """The metric without `val/`, as members call it."""
        return self.metric.removeprefix("val/")

    def value(self, metrics: dict[str, float]) -> float:
        """Return the value among metrics by name, signed so that higher is better."""
        return self.sign * metrics.get(self.name, -self.sign * np.inf)

    def score(self, members: Members, chosen: Sequence[int]) -> float | None:
        """Return the score of chosen members together, or None where it is undefined on these images."""
        return score_ensemble(members, chosen, self.name).get(self.metric)


def yardstick(run: Run, config: TrialConfig, notes: list[str]) -> Yardstick:
    """Return the run's metric as a yardstick, or a substitute, with a note, where votes have no value of it."""
    if not task_kind(config.task).pixels or run.metric != "val/loss":
        return Yardstick(run.metric, run.sign)
    notes.append("Votes have no val/loss, by which the run compares its trials: the ensemble is chosen by val/miou.")
    return Yardstick("val/miou", 1)


def choose_ensemble(run: Run, data: TrialData, size: int, num_trials: int | None = None) -> dict[str, Any]:
    """Choose and judge an ensemble of `size` members, write it to RUN/ensemble.json and return it.

        metric, mode    by what it was chosen
        combine         mean probability, or vote (for segmenters, whose predictions hold decisions alone)
        threshold       of the mean probability, for binary and multilabel decisions
        members         trial_id, epoch, weight (how often it was taken) and value (alone); the first is the best
        metrics         on all validation images, on which it was also chosen; with folds on all images
        single          the best model alone: trial_id, epoch, value, likewise
        held_out        on images that did not choose: `ensemble` and `single`, their means; `gain`, the mean
                        difference (positive is better), and its `deviation` over `estimates`
        better          whether the gain is larger than its deviation
        notes           sentences for the user

    `data` is the run's own. `num_trials` limits the choice to the kept models of that many best trials. Raises RunError
    if fewer than two models are kept, or if their predictions are not those of this data.
    """
    # The candidates: kept models that predict the same classes.
    notes: list[str] = []
    kept = kept_models(run, num_trials)
    if len(kept) < 2:
        raise RunError(
            f"{run.run_dir}: keeps {len(kept)} models, and an ensemble takes two. Search with a larger --keep-trials, "
            "or with --set keep_best=3, which keeps three epochs of each trial."
        )
    best_first = with_out_of_fold(run, data, alike(data, kept, notes))
    # With folds all images choose, each predicted by a model that has not seen it.
    whole = None if data.dataset.folds is None else folded(data, best_first, notes)
    members = side_by_side(data, best_first) if whole is None else whole.members
    num_images = len(data.dataset.indices("val"))
    if num_images < FEWEST_IMAGES:
        raise RunError(
            f"{num_images} validation images are too few to choose an ensemble and to judge it. {FEWEST_IMAGES} are "
            "the least: add some."
        )
    by = yardstick(run, best_first[0].config, notes)
    # Judge the choice by halves of the images: one half chooses, the other one judges.
    estimates = []
    sides = ("val",) if whole is None else ("train", "val")
    chosen_on = np.concatenate([data.dataset.indices(side) for side in sides])
    for first, second in halves(data.dataset.targets[chosen_on], data.dataset.groups_of(chosen_on)):
        for choosing, judging in ((first, second), (second, first)):
            chosen_by = members.of_images(choosing)
            judged_by = members.of_images(judging)
            chosen = select_members(chosen_by, by.value, by.name, size)
            # The first choice is the model that is best alone.
            values = [by.score(judged_by, one) for one in (chosen, chosen[:1])]
            if None not in values:  # a rare class may be missing in a half
                estimates.append(values)
    # The ensemble itself is chosen on all images.
    chosen = select_members(members, by.value, by.name, size)
    ensemble = {
        **described(best_first, members, chosen, by),
        "single": named(best_first[chosen[0]], 1),
        **_verdict(np.array(estimates, dtype=float), by.sign),
        "candidates": len(best_first),
        "notes": notes,
    }
    text = json.dumps(ensemble, indent=1) + "\n"
    write_whole(run.run_dir / ENSEMBLE_FILE, lambda path: path.write_text(text))
    return ensemble


def described(kept: Sequence[Kept], members: Members, chosen: Sequence[int], by: Yardstick) -> dict[str, Any]:
    """Return what an export takes of an ensemble: metric, mode, combine, threshold, members, metrics."""
    return {
        "metric": by.metric,
        "mode": "max" if by.sign == 1 else "min",
        "combine": "vote" if isinstance(members, PixelMembers) else "mean probability",
        "threshold": threshold_of([kept[member].config.threshold for member in chosen]),
        "members": [named(kept[member], count) for member, count in Counter(chosen).items()],
        "metrics": score_ensemble(members, chosen),
    }


def named(kept: Kept, weight: int) -> dict[str, Any]:
    """Return a member as files describe it."""
    return {"trial_id": kept.trial_id, "epoch": kept.epoch, "weight": weight, "value": kept.value}


def stored_ensemble(run_dir: Path) -> dict[str, Any] | None:
    """Return the ensemble that was chosen last, or None. Raises RunError if its file is damaged."""
    path = run_dir / ENSEMBLE_FILE
    if not os.path.lexists(path):
        return None
    anew = f"`visionsweep ensemble {run_dir}` writes it anew."
    ensemble = read_object(path, anew)
    problem = ensemble_problem(ensemble) or next(
        (f"'{name}' is missing" for name in ("metric", "metrics", "held_out", "single", "better", "candidates", "notes")
         if name not in ensemble), None
    )  # fmt: skip
    if problem is not None:
        raise RunError(f"{path}: is damaged ({problem}). {anew}")
    return ensemble


def _verdict(estimates: np.ndarray, sign: int) -> dict[str, Any]:
    """Return the gain and whether it is clear. estimates (n, 2): held-out scores of ensemble and single model."""
    if len(estimates) < 2:
        return {"held_out": None, "better": False}
    gains = sign * (estimates[:, 0] - estimates[:, 1])
    gain = float(gains.mean())
    deviation = float(gains.std(ddof=1))
    means = {"ensemble": float(estimates[:, 0].mean()), "single": float(estimates[:, 1].mean())}
    held_out = {**means, "gain": gain, "deviation": deviation, "estimates": len(gains)}
    return {"held_out": held_out, "better": gain > deviation}
