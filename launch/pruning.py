"""Which running trials go on: ASHA (Li et al. 2018, arXiv:1810.05934), through Ray's own class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from analysis.load import Trial
from search_spaces.search import Search


def build_scheduler(search: Search, past: Iterable[Trial] = ()) -> TrialScheduler:
    """Rungs at grace_epochs x reduction_factor^k below the full epochs; the best 1/reduction_factor of each goes on.

    past: trials of a run that is gone on with; they stand in the rungs as if the search had never stopped.
    """
    if search.grace_epochs >= search.epochs:
        return FIFOScheduler()
    return ResumableAsha(search, past)


class ResumableAsha(AsyncHyperBandScheduler):  # type: ignore[misc]
    """Ray's ASHA with the run's own trial ids in its rungs, which outlive Ray's."""

    def __init__(self, search: Search, past: Iterable[Trial]) -> None:
        super().__init__(
            time_attr="epoch",
            metric=search.metric,
            mode=search.mode,
            max_t=search.epochs,
            grace_period=search.grace_epochs,
            reduction_factor=search.reduction_factor,
        )
        for trial in past:
            named = _Named(trial.trial_id)
            super().on_trial_add(None, named)
            for epoch, value in sorted(trial.values(search.metric or "").items()):
                super().on_trial_result(None, named, {"epoch": epoch, search.metric: value})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, _named(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        return super().on_trial_result(tune_controller, _named(trial), result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, _named(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_remove(tune_controller, _named(trial))


@dataclass(frozen=True)
class _Named:
    """All that ASHA looks at in a trial."""

    trial_id: str


def _named(trial: Any) -> _Named:
    return _Named(trial.config["trial_id"])
