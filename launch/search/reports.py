"""What an Optuna study is told of a trial: the values of its epochs, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState

from launch.samplers.history import EPOCH_SECONDS, FOLDS_FROM, INFEASIBLE, OUTCOME, by_epoch, score_of
from launch.samplers.optuna_internals import stored
from launch.samplers.replay import INFEASIBLE_STATUSES, STATES, epoch_seconds
from visionsweep.core.objectives import Objective, measured


def report(
    trial: optuna.Trial, result: Mapping[str, Any], objectives: Sequence[Objective], seconds: list[float]
) -> None:
    """Tell the study an epoch of an open trial, once. seconds: of its epochs so far, to which this one's are added."""
    if "epoch" not in result or result["epoch"] in by_epoch(stored(trial)):
        return
    if result.get("fold", 1) == 1:  # else they are of all epochs of a fold
        seconds.append(float(result["seconds"]))
    if result.get("fold") == 1:
        trial.set_user_attr(FOLDS_FROM, result["epoch"])
    if stored(trial).user_attrs.get(EPOCH_SECONDS) != (took := epoch_seconds(seconds)):
        trial.set_user_attr(EPOCH_SECONDS, took)
    values = measured(result, objectives)
    if values is None:
        return
    if len(values) > 1:  # Optuna's trials of several objectives take no reports
        trial.set_user_attr(f"{OUTCOME}{result['epoch']}", values)
    else:
        trial.report(values[0], step=int(result["epoch"]))


def end(study: optuna.Study, trial: optuna.Trial, status: str, objectives: Sequence[Objective]) -> None:
    """Tell the study how an open trial ended, of which it knows all epochs."""
    if status in INFEASIBLE_STATUSES:
        trial.set_user_attr(INFEASIBLE, True)
    values = score_of(stored(trial), objectives[0].sign)
    # An interrupted trial counts as failed here. A resumed run builds a new study, in which it runs.
    state = STATES.get(status, TrialState.FAIL)
    if state == TrialState.COMPLETE and values is None:  # it never had a value of the metric
        state = TrialState.FAIL
    study.tell(trial, values if state == TrialState.COMPLETE else None, state=state)
