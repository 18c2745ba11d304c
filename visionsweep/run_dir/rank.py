"""Ranking of a run's trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import pandas as pd

from visionsweep.core.objectives import Objective, value_of
from visionsweep.core.pareto import fronts
from visionsweep.run_dir.trials import Trial


class Ranked(Protocol):
    """What a ranking needs of a `Run`, which itself imports this file to be shown."""

    @property
    def trials(self) -> list[Trial]: ...
    @property
    def objectives(self) -> tuple[Objective, ...]: ...
    @property
    def num_folds(self) -> int: ...


def ranked(trials: Iterable[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Return the trials, best first.

    Complete trials with a score come first, then the others with a score, then those without one. Among the others,
    those with more completed folds come first. Within each group the better score comes first, and ties go to the
    earlier trial. With several objectives a group is ordered by Pareto front (`pareto.fronts`), and a front by the
    first objective.
    """
    return [trial for trial, _ in with_fronts(trials, objectives)]


def with_fronts(trials: Iterable[Trial], objectives: Sequence[Objective]) -> list[tuple[Trial, int | None]]:
    """Return the trials as `ranked` does, each with its front.

    Front 1 is the Pareto front of the complete trials. The others have None.
    """
    listed = list(trials)
    outcomes = {trial.trial_id: trial.outcome(objectives) for trial in listed}
    front: dict[str, int] = {}
    for competing in (True, False):
        alike = [trial for trial in listed if (trial.status == "complete") == competing]
        some = [trial for trial in alike if outcomes[trial.trial_id] is not None]
        if len(objectives) == 1:
            front |= dict.fromkeys((trial.trial_id for trial in some), 1)
        else:
            numbers = fronts([outcomes[trial.trial_id] or () for trial in some])
            front |= {trial.trial_id: int(number) for trial, number in zip(some, numbers, strict=True)}

    def key(trial: Trial) -> tuple[bool, bool, int, int, float, str]:
        values = outcomes[trial.trial_id]
        first = -values[0] if values else 0.0
        group = values is None, trial.status != "complete", -trial.num_folds
        return *group, front.get(trial.trial_id, 0), first, trial.trial_id

    return [
        (trial, front.get(trial.trial_id) if trial.status == "complete" else None) for trial in sorted(listed, key=key)
    ]


def ranking(run: Ranked) -> list[dict[str, Any]]:
    """Return a row for each trial, best first.

    Its keys are rank, trial_id, status, reason, epochs, best_epoch, metrics, config and seconds. `metrics` are those of
    the best epoch. With folds they are means, and a row also has `folds`, the number of completed ones, and
    `deviation`, that of the run's metric over them. With several objectives a row also has `front`, None for trials
    that are not complete, and `objectives`, their values at that epoch.
    """
    rows = []
    objectives = run.objectives
    for rank, (trial, front) in enumerate(with_fronts(run.trials, objectives), start=1):
        best_row = trial.best_row(objectives[0])
        row = {
            "rank": rank,
            "trial_id": trial.trial_id,
            "status": trial.status,
            "reason": trial.reason,
            "epochs": len(trial.curve),
            "best_epoch": best_row["epoch"] if best_row else None,
            "metrics": best_row["metrics"] if best_row else {},
            "config": trial.config,
            "seconds": round(trial.seconds, 3),
        }
        if run.num_folds > 1:
            row |= {"folds": trial.num_folds, "deviation": trial.deviation}
        if len(objectives) > 1:
            values = {one.name: value_of(best_row, one.name) if best_row else None for one in objectives}
            row |= {"front": front, "objectives": values}
        rows.append(row)
    return rows


def ranking_frame(run: Ranked) -> pd.DataFrame:
    """Return the ranking as a table, best first.

    Its columns are the parameters (`optimizer/sgd/lr`) and the metrics of the best epoch (`val/accuracy`). A parameter
    is NaN where a trial does not have it.
    """
    params = {trial.trial_id: trial.params for trial in run.trials}
    rows = []
    for row in ranking(run):
        plain = {key: value for key, value in row.items() if key not in ("metrics", "config", "objectives")}
        rows.append({**plain, **row["metrics"], **row.get("objectives", {}), **params[row["trial_id"]]})
    return pd.DataFrame(rows, columns=None if rows else ["rank", "trial_id", "status", "epochs", "seconds"])
