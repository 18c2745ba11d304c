"""Which running trials go on: ASHA with fair rungs, or one of Ray's own schedulers (`ray_pruners.py`).

Backbones differ by two orders of magnitude in cost, and small ones rise faster. `rungs` says what is alike: the same
share of a trial's own schedule (`epochs`), the same time (`seconds`), or the same share among trials whose epochs cost
about the same (`tiers`).

Where the lengths of trials differ, a rung is for those that have an epoch near it. One of a single epoch has none: it
is trained to its end, is no measure for others on their way, and stands among the complete ones alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from analysis.trials import WARM_START, Trial
from launch.engine.early import REPEATED_EPOCHS, Beginnings, Repeats
from launch.engine.rungs import ParetoRungs, Rungs, carried_on
from launch.population import Population
from launch.ray_pruners import hyperband, median_stopping, stock_asha
from search_spaces.names import pick
from search_spaces.objectives import outcome
from search_spaces.rungs import milestones
from search_spaces.search import Search

TIER = 4.0  # epochs that cost less than so many times as much as each other are of one tier, roughly
MAX_RUNGS_S = 12  # rungs in seconds have no top: so many, each `reduction_factor` times the one before


def build_scheduler(search: Search, past: Iterable[Trial] = ()) -> TrialScheduler:
    """The search's pruner. past: trials of a run that is gone on with; they stand in ASHA's rungs as if the search
    had never stopped (Ray's own schedulers start anew)."""
    return pick(PRUNERS, search.pruner, "pruner")(search, past)


@dataclass
class _Course:
    """A trial's way so far. points: (position, best value so far), higher is better. repeats: whose way it is."""

    scale: float  # positions per epoch
    given: bool  # by a warm start
    points: list[tuple[float, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    told: list[object] = field(default_factory=list)  # the metrics of the first epochs
    next_rung: int = 0
    epoch: int = 0
    repeats: str | None = None


class FairAsha(FIFOScheduler):  # type: ignore[misc]
    """See `launch.engine.rungs` and `launch.engine.early` for the rules.

    Trials are known by the run's own ids, which outlive Ray's. reasons: by trial, why it ended, where no rung said so.
    """

    def __init__(self, search: Search, past: Iterable[Trial] = ()) -> None:
        super().__init__()
        self.search = search
        self.objectives = search.compared  # Ray keeps `metric` for itself
        if search.rungs == "seconds":
            first = search.grace_seconds or 60.0
            at = [first * search.reduction_factor**power for power in range(MAX_RUNGS_S)]
        else:
            at = milestones(search.grace_epochs, search.reduction_factor, search.epochs)
        several = len(self.objectives) > 1
        self.rungs = (ParetoRungs if several else Rungs)(at, search.reduction_factor)
        self.beginnings, self.repeats = Beginnings(search.reduction_factor), Repeats()
        self.courses: dict[str, _Course] = {}
        self.reasons: dict[str, str] = {}
        for trial in past:
            course = self._course(trial.trial_id, trial.config, trial.origin)
            for row in sorted(trial.epochs, key=lambda row: int(row["epoch"])):
                self._decide(trial.trial_id, {**row, **row["metrics"]}, ask=False)
            if trial.status == "pruned" and course.next_rung == 0 and course.repeats is None:
                self._end_early(course)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        told = trial.config
        self._course(
            told["trial_id"], told["config"], told.get("origin", "")
        )  # of one that is gone on with, `past` tells

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        goes_on = self._decide(trial.config["trial_id"], result, ask=True)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._decide(trial.config["trial_id"], result, ask=False)  # Ray does not ask about a trial's last epoch

    def _course(self, trial_id: str, config: dict[str, Any], origin: str) -> _Course:
        # The same share of its own schedule: half of 30 epochs is compared with half of 90.
        scale = self.search.epochs / config.get("epochs", self.search.epochs)
        return self.courses.setdefault(trial_id, _Course(scale, origin == WARM_START))

    def _decide(self, trial_id: str, result: dict[str, Any], *, ask: bool) -> bool:
        """Take an epoch; whether the trial goes on, which is only asked of a trial that runs."""
        course, value = self.courses[trial_id], result.get(self.objectives[0].name)
        if value is not None and not math.isfinite(value):
            return False
        values = outcome(result, self.objectives)
        if "epoch" not in result or values is None:
            return True  # where the metric is not defined there is nothing to compare
        if result["epoch"] <= course.epoch:
            return True  # told again by a process that took over from one that died
        course.epoch = result["epoch"]
        course.seconds.append(float(result["seconds"]))
        position = sum(course.seconds) if self.search.rungs == "seconds" else result["epoch"] * course.scale
        best = max(values[0], course.points[-1][1] if course.points else -math.inf)
        course.points.append((position, best))
        if len(course.told) < REPEATED_EPOCHS:
            course.told.append((course.scale, _said(result)))  # a longer trial is another one, however alike they begin
            course.repeats = self.repeats.repeated(trial_id, course.told)
        if course.repeats is not None and ask:
            # It leaves no mark: what it says stands in the rungs already.
            self.reasons[trial_id] = (
                f"its first {len(course.told)} epochs are trial {course.repeats}'s to the last digit"
            )
            return False
        reached = [at for at in self.rungs.milestones[course.next_rung :] if position >= at * (1 - 1e-9)]
        if reached and not self._is_near(position, reached[-1]):
            course.next_rung += len(reached)
            return True
        if not reached:
            if course.next_rung or not ask or not self.beginnings.hopeless(course.points, self._tier(course)):
                return True
            self._end_early(course)
            name = self.objectives[0].name
            self.reasons[trial_id] = (
                f"{name} {value:.4g} at epoch {course.epoch}: every trial that passed the first rung was better by then"
            )
            return False
        # By several objectives nothing ends early.
        has_beginning = self.search.rungs == "seconds" or course.scale < reached[0]
        if course.next_rung == 0 and has_beginning and isinstance(self.rungs, Rungs) and not course.given:
            self.beginnings.arrive(course.points, self._tier(course))
        course.next_rung += len(reached)
        # One long epoch may pass several rungs: what the trial had at the earlier ones, nobody knows.
        milestone, tier = reached[-1], self._tier(course)
        if isinstance(self.rungs, ParetoRungs):
            standing = (best, *values[1:])
            return self.rungs.goes_on(milestone, standing, tier, course.given) or not ask
        if ask:
            rising_to = carried_on(course.points, milestone * self.rungs.factor)
            return self.rungs.goes_on(milestone, best, tier, rising_to, course.given)
        self.rungs.record(milestone, best, tier, course.given)
        return True

    def _is_near(self, position: float, milestone: float) -> bool:
        """Whether what a trial has at a position can be compared with what others had at the rung: it is nearer to it
        than to the next, on the scale of rungs, and the trial not at its end. In seconds there are no shares."""
        if self.search.rungs == "seconds":
            return True
        return position < min(milestone * math.sqrt(self.rungs.factor), self.search.epochs * (1 - 1e-9))

    def _end_early(self, course: _Course) -> None:
        """At the first rung it counts as one that came there with what it had."""
        if course.points and isinstance(self.rungs, Rungs):
            if not course.given:
                self.beginnings.end(self._tier(course))
            self.rungs.record(self.rungs.milestones[0], course.points[-1][1], self._tier(course), course.given)

    def _tier(self, course: _Course) -> str:
        if self.search.rungs != "tiers":
            return ""
        return str(round(math.log(max(median(course.seconds), 1e-3)) / math.log(TIER)))


def _said(result: dict[str, Any]) -> object:
    """The metrics of an epoch, without what it cost."""
    return tuple(sorted((name, value) for name, value in result.items() if name.startswith(("train/", "val/"))))


def asha(search: Search, past: Iterable[Trial] = ()) -> TrialScheduler:
    """ASHA with the rules of `launch.engine.rungs`; nothing is pruned where the first rung is full training."""
    ends_first = search.rungs != "seconds" and search.grace_epochs >= search.epochs
    return FIFOScheduler() if ends_first else FairAsha(search, past)


def no_pruning(search: Search, past: Iterable[Trial] = ()) -> TrialScheduler:
    """Every trial trains to its end."""
    return FIFOScheduler()


PRUNERS: dict[str, Callable[[Search, Iterable[Trial]], TrialScheduler]] = {
    "asha": asha,
    "stock": stock_asha,
    "hyperband": hyperband,
    "median": median_stopping,
    "pbt": Population,
    "none": no_pruning,
}
