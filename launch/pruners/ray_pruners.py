"""Ray's own schedulers, which end trials by other rules than ours.

Ray compares trials at equal epochs. If lengths differ, epoch 2 of 2 is not epoch 2 of 24. So Hyperband and the median
rule get shares of a trial's own schedule. Ray's ASHA is left as it comes, for comparisons with it.
"""

from __future__ import annotations

import math
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from launch.samplers.encoding import Encoder
from launch.samplers.lengths import Lengths
from launch.trial_notes import Surroundings
from search_spaces.search import Search

POSITION = "schedule_epochs"  # in a result for Ray: its epoch on the scale of the search's longest trials


def stock_asha(search: Search, around: Surroundings) -> TrialScheduler:
    """Return Ray's ASHA as it comes: grace of one epoch, reduction by four.

    Trials of all lengths share the same rungs.
    """
    return AsyncHyperBandScheduler(time_attr="epoch", metric=search.metric, mode=search.mode, max_t=search.epochs)


def hyperband(search: Search, around: Surroundings) -> TrialScheduler:
    """Return Ray's asynchronous Hyperband with three brackets, the later ones with a longer grace."""
    return _Hyperband(search)


def median_stopping(search: Search, around: Surroundings) -> TrialScheduler:
    """Return Ray's median rule (Golovin et al. 2017, Vizier).

    A trial ends if it is below the median of the others' running means.
    """
    return _Median(search)


def raw_epochs(search: Search) -> list[str]:
    """Return a warning on a pruner that compares trials of different lengths epoch by epoch."""
    lengths = Lengths(search.full_space, Encoder(search.full_space), search.epochs)
    if search.pruner != "stock" or not lengths.vary:
        return []
    return [
        "--pruner stock compares the second epoch of 2 with the second of 24, which ends most long trials. It is there "
        "for comparisons: asha, hyperband and median compare equal shares of each trial's own schedule."
    ]


class _Hyperband(AsyncHyperBandScheduler):  # type: ignore[misc]
    """Ray's brackets, with rungs at shares of a trial's own schedule."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.first = min(search.grace_epochs, search.epochs)
        super().__init__(
            time_attr=POSITION,
            metric=search.metric,
            mode=search.mode,
            max_t=search.epochs,
            grace_period=self.first,
            reduction_factor=search.reduction_factor,
            brackets=3,
        )

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        placed = _placed(self.search, trial, result)
        if self._is_short(trial) and not self._near_a_rung(placed.get(POSITION, 0.0)):
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, placed)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        # A short trial may have passed a rung between two epochs. Its last value would then stand there.
        placed = {} if self._is_short(trial) else _placed(self.search, trial, result)
        super().on_trial_complete(tune_controller, trial, placed)

    def _is_short(self, trial: Any) -> bool:
        return _length(self.search, trial) < self.search.epochs

    def _near_a_rung(self, position: float) -> bool:
        """Whether the last rung at or before a position is nearer than the next one, on the scale of rungs."""
        if position < self.first * (1 - 1e-9):
            return False
        rungs_past = math.log(position / self.first) / math.log(self.search.reduction_factor) + 1e-9
        return rungs_past % 1 < 0.5


class _Median(MedianStoppingRule):  # type: ignore[misc]
    """Ray's median rule, guarded against trials without an epoch.

    Ray keeps every trial's last result, and fails on that of a trial that ended without an epoch.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        super().__init__(time_attr=POSITION, metric=search.metric, mode=search.mode, grace_period=search.grace_epochs)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        return super().on_trial_result(tune_controller, trial, _placed(self.search, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if "epoch" in result:
            super().on_trial_complete(tune_controller, trial, _placed(self.search, trial, result))


def _length(search: Search, trial: Any) -> int:
    """Return the epochs of a Ray trial of ours."""
    return int(trial.config["config"].get("epochs", search.epochs))


def _placed(search: Search, trial: Any, result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with its POSITION, if it is of an epoch."""
    if "epoch" not in result:
        return result
    return {**result, POSITION: result["epoch"] * search.epochs / _length(search, trial)}
