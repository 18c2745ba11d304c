"""How far a search is, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from visionsweep.core.text import duration
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.sessions import spent_s, times_of
from visionsweep.run_dir.shown import best_trial, counts_of, in_counts

State = Literal["starting", "running", "ended", "stopped", "failed"]
ENOUGH_FOR_A_PACE = 3  # trials


@dataclass(frozen=True)
class Status:
    """A search at one moment.

    state         starting (there is no run yet), running, ended, stopped (it can be resumed), or failed
    counts        number of trials by status: complete, running, pruned, interrupted, failed, diverged, oom
    num_epochs    of all trials together
    metric        by which trials are compared, None while there is no run
    best          value of the trial that ranks first, None while none has a score
    best_trial    its id
    seconds       since the call began, until the search ended
    seconds_left  an estimate, None where nothing tells it
    """

    state: State
    counts: Mapping[str, int]
    num_epochs: int
    metric: str | None
    best: float | None
    best_trial: str | None
    seconds: float
    seconds_left: float | None

    @property
    def num_trials(self) -> int:
        return sum(self.counts.values())

    def __str__(self) -> str:
        best = "" if self.best is None else f"; best {self.best:.4f} {self.metric} (trial {self.best_trial})"
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        return f"{self.state} after {duration(self.seconds)}{left}; {in_counts(self.counts)}{best}"


def status_of(run: Run | None, state: State, seconds: float, now: float) -> Status:
    """Return the status of a run, None for one that the search has not made yet. now: of time.time()."""
    if run is None:
        return Status(state, {}, 0, None, None, None, seconds, None)
    best = best_trial(run)
    return Status(
        state=state,
        counts=counts_of(run.trials),
        num_epochs=sum(len(trial.epochs) for trial in run.trials),
        metric=run.metric,
        best=None if best is None else best[0],
        best_trial=None if best is None else best[1].trial_id,
        seconds=seconds,
        seconds_left=_seconds_left(run, now) if state in ("starting", "running") else None,
    )


def _seconds_left(run: Run, now: float) -> float | None:
    """Return what is left of the budget, or what the other trials take at the pace so far, the less of the two."""
    options = run.search.get("options") or {}
    budget_s = options.get("budget_s")
    num_trials = options.get("num_trials")
    spent = spent_s(run.search, [*times_of(run.trials), now])  # of earlier sessions too
    estimates = [] if budget_s is None else [max(0.0, budget_s - spent)]
    done = sum(trial.status not in ("running", "interrupted") for trial in run.trials)
    if num_trials is not None and done >= ENOUGH_FOR_A_PACE:
        estimates.append(spent / done * max(0, num_trials - done))
    return min(estimates, default=None)
