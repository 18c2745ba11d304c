"""Recorded trials as Optuna's, so that a study can be rebuilt from a run directory at any time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from launch.samplers.history import EPOCH_SECONDS, FOLDS_FROM, INFEASIBLE, OUTCOME
from search_spaces.search import Search
from visionsweep.core.errors import RunError
from visionsweep.core.objectives import measured, value_of
from visionsweep.run_dir.trials import Trial

# A study's state for each way in which a trial ends. `interrupted` trials are resumed, so for a study they run.
STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "diverged": TrialState.FAIL,
    "oom": TrialState.FAIL,
}
DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
INFEASIBLE_STATUSES = ("diverged", "oom")
TIMED_EPOCHS = 3  # the cost of a trial's epoch is the median of this many first ones
DEARER = 1.5  # or of its latest, if they take this many times as long: a decoder may train alone at first


class Replay:
    """Conversion of recorded trials. It knows the ranges of a search's parameters, which records do not hold."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.objectives = search.compared

    def frozen(self, record: Trial) -> FrozenTrial:
        """Return a record as a trial of a study, in the state that it truly has.

        Raises RunError if its parameters are not of the search.
        """
        try:
            return self._frozen(record)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            raise RunError(
                f"trials.jsonl: trial {record.trial_id} is not one of this search ({error}). Delete its lines."
            ) from None

    def _frozen(self, record: Trial) -> FrozenTrial:
        ranges = _Ranges(record.params)
        self.search.draw(ranges)
        values = self.values(record)
        state = STATES.get(record.status, TrialState.RUNNING)
        if state == TrialState.COMPLETE and values is None:  # it never had a value of the metric
            state = TrialState.FAIL
        return create_trial(
            state=state,
            values=values if state == TrialState.COMPLETE else None,
            params={name: value for name, value in record.params.items() if name in ranges.found},
            distributions={name: ranges.found[name] for name in record.params if name in ranges.found},
            # Optuna's trials of several objectives have no intermediate values.
            intermediate_values={} if len(self.objectives) > 1 else self._steps(record),
            user_attrs={**self.attributes(record), **self._outcomes(record)},
        )

    def values(self, record: Trial) -> list[float] | None:
        """Return what a study takes for the value, or the values, of a trial, None if it has none."""
        row = record.best_row(self.objectives[0])
        return None if row is None else measured(row, self.objectives)

    def _steps(self, record: Trial) -> dict[int, float]:
        """Return the metric by epoch, and the means after further folds by their number in its place."""
        name = self.objectives[0].name
        folds = {row["epoch"]: value_of(row, name) for row in record.epochs if row.get("fold", 1) > 1}
        return record.values(name) | {step: value for step, value in folds.items() if value is not None}

    def _outcomes(self, record: Trial) -> dict[str, list[float]]:
        if len(self.objectives) == 1:
            return {}
        return {
            f"{OUTCOME}{row['epoch']}": values for row in record.epochs if (values := measured(row, self.objectives))
        }

    def attributes(self, record: Trial) -> dict[str, Any]:
        """Return what a study keeps of a trial beside its values."""
        found: dict[str, Any] = {"trial_id": record.trial_id}
        if record.status != "running":
            found["status"] = record.status
        if record.reason:
            found["reason"] = record.reason
        if record.status in INFEASIBLE_STATUSES:
            found[INFEASIBLE] = True
        if record.epochs:
            found[EPOCH_SECONDS] = epoch_seconds([row["seconds"] for row in record.curve])
        if (last := last_of_first_fold(record)) is not None:
            found[FOLDS_FROM] = last
        return found


def last_of_first_fold(record: Trial) -> int | None:
    """Return the last epoch of a trial's first fold, None while it has not completed it, or has no folds."""
    return int(record.curve[-1]["epoch"]) if record.num_folds else None


def epoch_seconds(seconds: list[float]) -> float:
    """Return what an epoch of a trial takes, from the seconds of its epochs so far, in order."""
    first = median(seconds[:TIMED_EPOCHS])
    latest = median(seconds[-TIMED_EPOCHS:])
    return max(latest if latest > DEARER * first else first, 1e-6)


def ended_as(last_result: Mapping[str, Any], metric: str) -> str:
    """Return how a trial ended, by its last result.

    Ray ended it if that result says `running`. It then was pruned, or its value was not a finite number.
    """
    status = str(last_result.get("status", "interrupted"))
    if status != "running":
        return status
    value = last_result.get(metric)
    return "pruned" if value is None or math.isfinite(value) else "diverged"


class _Ranges:
    """Stand-in for a trial, which returns recorded values and notes their ranges."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.found: dict[str, BaseDistribution] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.found[name] = optuna.distributions.FloatDistribution(low, high, log=log, step=step)
        return float(self.values.get(name, low))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.found[name] = optuna.distributions.IntDistribution(low, high, log=log, step=step)
        return int(self.values.get(name, low))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.found[name] = optuna.distributions.CategoricalDistribution(choices)
        return self.values.get(name, choices[0])
