"""Pruners, which end trials early: ASHA with fair rungs, or one of Ray's own schedulers (`ray_pruners.py`).

Backbones differ by two orders of magnitude in cost, and small ones rise faster. `rungs` says what is compared:

    epochs   trials at the same share of their own schedules
    seconds  trials at the same time
    tiers    trials at the same share whose epochs cost about the same

If trials differ in length, a rung is for those that have an epoch near it. A trial of a single epoch has no rung. It is
trained to its end, is no measure for running trials, and is compared among the complete ones alone.

With folds the number of completed ones is another ladder: 1, `reduction_factor`, its square and so on. Trials of any
length are compared there, each by its mean over as many folds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from launch.pruners.early_stopping import REPEATED_EPOCHS, DominatedStarts, DuplicateTrials
from launch.pruners.rungs import ParetoRungs, Rungs, extrapolate
from launch.trial_notes import Surroundings, TrialNotes
from search_spaces.search import Search
from visionsweep.core.functions import function_at
from visionsweep.core.names import PRUNERS, pick
from visionsweep.core.objectives import outcome
from visionsweep.core.rungs import milestones
from visionsweep.run_dir.trials import WARM_START, Trial

TIER = 4.0  # roughly the ratio of costs up to which epochs are of one tier


def build_scheduler(
    search: Search,
    past: Iterable[Trial] = (),
    notes: TrialNotes | None = None,
    running: int | None = None,
    folds: int = 1,
) -> TrialScheduler:
    """Return the search's pruner.

    past     trials of a resumed run. They stand in ASHA's rungs as if the search had never stopped. Ray's own
             schedulers start anew.
    notes    where it writes which trials it ended for what, and which are to be copied
    running  most trials of a population that run at once, None means as many as fit
    folds    that a complete trial is judged on, 1 without any
    """
    around = Surroundings(tuple(past), notes or TrialNotes(), running, folds)
    scheduler: TrialScheduler = function_at(pick(PRUNERS, search.pruner, "pruner"))(search, around)
    return scheduler


@dataclass
class _Course:
    """A trial's progress.

    points: (position, best value so far), higher is better. repeats: the trial whose first epochs it repeats.
    """

    scale: float  # positions per epoch
    from_warm_start: bool  # by a warm start
    points: list[tuple[float, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    first_metrics: list[object] = field(default_factory=list)  # the metrics of the first epochs
    next_rung: int = 0
    epoch: int = 0
    duplicate_of: str | None = None


class FairAsha(FIFOScheduler):  # type: ignore[misc]
    """ASHA by the rules of `launch.pruners.rungs` and `launch.pruners.early_stopping`.

    Trials are known by the run's own ids, which outlive Ray's. Of the notes `pruned` is written.
    """

    def __init__(self, search: Search, around: Surroundings) -> None:
        super().__init__()
        self.search = search
        self.objectives = search.compared  # Ray keeps `metric` for itself
        several = len(self.objectives) > 1
        self.rungs = (ParetoRungs if several else Rungs)(search.rung_at, search.reduction_factor)
        self.dominated_starts = DominatedStarts(search.reduction_factor)
        self.duplicates = DuplicateTrials()
        self.courses: dict[str, _Course] = {}
        self.notes = around.notes
        self.folds = around.folds
        self.fold_rungs = {round(at) for at in milestones(1, search.reduction_factor, around.folds)}
        for trial in around.past:
            course = self._course(trial.trial_id, trial.config, trial.origin)
            for row in sorted(trial.epochs, key=lambda row: int(row["epoch"])):
                self._decide(trial.trial_id, {**row, **row["metrics"]}, ask=False)
            ended_early = course.next_rung == 0 and course.duplicate_of is None and not trial.num_folds
            if trial.status == "pruned" and ended_early:
                self._end_early(course)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        config = trial.config
        # Resumed trials were registered from `past`.
        self._course(config["trial_id"], config["config"], config.get("origin", ""))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        continues = self._decide(trial.config["trial_id"], result, ask=True)
        return TrialScheduler.CONTINUE if continues else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._decide(trial.config["trial_id"], result, ask=False)  # Ray does not ask about a trial's last epoch

    def _course(self, trial_id: str, config: dict[str, Any], origin: str) -> _Course:
        # The same share of its own schedule: half of 30 epochs is compared with half of 90.
        scale = self.search.epochs / config.get("epochs", self.search.epochs)
        return self.courses.setdefault(trial_id, _Course(scale, origin == WARM_START))

    def _decide(self, trial_id: str, result: dict[str, Any], *, ask: bool) -> bool:
        """Record an epoch, and return whether the trial continues. ask: the trial runs, and may be ended."""
        course = self.courses[trial_id]
        value = result.get(self.objectives[0].name)
        if value is not None and not math.isfinite(value):
            return False
        values = outcome(result, self.objectives)
        if "epoch" not in result or values is None:
            return True  # there is nothing to compare if the metric is not defined
        if result["epoch"] <= course.epoch:
            return True  # repeated by a process that took over from one that died
        course.epoch = result["epoch"]
        fold = result.get("fold", 0)  # that ended with this result
        continues = fold > 1 or self._decide_epoch(trial_id, course, result, values, ask=ask)
        return self._decide_fold(trial_id, course, fold, values, ask=ask) if fold and continues else continues

    def _decide_fold(self, trial_id: str, course: _Course, fold: int, values: tuple[float, ...], *, ask: bool) -> bool:
        """Record a completed fold, and return whether the trial continues with the next one."""
        if fold not in self.fold_rungs:
            return True
        score = course.points[-1][1] if fold == 1 else values[0]  # of its epochs the best, or the mean of folds
        milestone = -float(fold)  # beside the rungs of epochs
        tier = self._tier(course)
        if isinstance(self.rungs, ParetoRungs):
            passes = self.rungs.promote(milestone, (score, *values[1:]), tier, course.from_warm_start) or not ask
        elif ask:
            passes = self.rungs.promote(milestone, score, tier, None, course.from_warm_start)
        else:
            self.rungs.record(milestone, score, tier, course.from_warm_start)
            passes = True
        if not passes:
            first = self.objectives[0]
            self.notes.pruned[trial_id] = (
                f"{first.name} {first.sign * score:.4g} after fold {fold} of {self.folds} is not in the best "
                f"1/{self.search.reduction_factor}"
            )
        return passes

    def _decide_epoch(
        self, trial_id: str, course: _Course, result: dict[str, Any], values: tuple[float, ...], *, ask: bool
    ) -> bool:
        """Record an epoch, of the first fold if there are folds, and return whether the trial continues."""
        # Add the epoch to the trial's course.
        value = self.objectives[0].sign * values[0]
        course.seconds.append(float(result["seconds"]))
        position = sum(course.seconds) if self.search.rungs == "seconds" else result["epoch"] * course.scale
        best = max(values[0], course.points[-1][1] if course.points else -math.inf)
        course.points.append((position, best))
        # End a trial that repeats another one to the last digit. Trials of different lengths are never the same.
        if len(course.first_metrics) < REPEATED_EPOCHS:
            course.first_metrics.append((course.scale, _metrics_of(result)))
            course.duplicate_of = self.duplicates.duplicate_of(trial_id, course.first_metrics)
        if course.duplicate_of is not None and ask:
            # It leaves no mark, as its values stand in the rungs already.
            self.notes.pruned[trial_id] = (
                f"its first {len(course.first_metrics)} epochs are trial {course.duplicate_of}'s to the last digit"
            )
            return False
        # Find the rungs that were reached. Those that the trial passed between two epochs are skipped.
        reached = [at for at in self.rungs.milestones[course.next_rung :] if position >= at * (1 - 1e-9)]
        if reached and not self._is_near(position, reached[-1]):
            course.next_rung += len(reached)
            return True
        # Before the first rung, end a trial that is worse than all that passed it.
        if not reached:
            if course.next_rung or not ask or not self.dominated_starts.is_dominated(course.points, self._tier(course)):
                return True
            self._end_early(course)
            name = self.objectives[0].name
            self.notes.pruned[trial_id] = (
                f"{name} {value:.4g} at epoch {course.epoch}: every trial that passed the first rung was better by then"
            )
            return False
        # At the first rung, keep the trial's beginning as a measure. By several objectives nothing ends early.
        has_beginning = self.search.rungs == "seconds" or course.scale < reached[0]
        if course.next_rung == 0 and has_beginning and isinstance(self.rungs, Rungs) and not course.from_warm_start:
            self.dominated_starts.arrive(course.points, self._tier(course))
        course.next_rung += len(reached)
        # Compare at the last rung reached. One long epoch may pass several, and its values at the earlier ones are
        # unknown.
        milestone = reached[-1]
        tier = self._tier(course)
        if isinstance(self.rungs, ParetoRungs):
            scores = (best, *values[1:])
            return self.rungs.promote(milestone, scores, tier, course.from_warm_start) or not ask
        if ask:
            rising_to = extrapolate(course.points, milestone * self.rungs.factor)
            return self.rungs.promote(milestone, best, tier, rising_to, course.from_warm_start)
        self.rungs.record(milestone, best, tier, course.from_warm_start)
        return True

    def _is_near(self, position: float, milestone: float) -> bool:
        """Whether a trial's value at a position can be compared with the others' at the rung.

        The position must be nearer to the rung than to the next one, on the scale of rungs. The trial must not be at
        its end. In seconds there are no shares, and all can be compared.
        """
        if self.search.rungs == "seconds":
            return True
        return position < min(milestone * math.sqrt(self.rungs.factor), self.search.epochs * (1 - 1e-9))

    def _end_early(self, course: _Course) -> None:
        """Record a trial that ends early at the first rung, with the best value that it had."""
        if course.points and isinstance(self.rungs, Rungs):
            if not course.from_warm_start:
                self.dominated_starts.end(self._tier(course))
            self.rungs.record(
                self.rungs.milestones[0], course.points[-1][1], self._tier(course), course.from_warm_start
            )

    def _tier(self, course: _Course) -> str:
        if self.search.rungs != "tiers":
            return ""
        return str(round(math.log(max(median(course.seconds), 1e-3)) / math.log(TIER)))


def _metrics_of(result: dict[str, Any]) -> object:
    """Return the metrics of an epoch, without its costs."""
    return tuple(sorted((name, value) for name, value in result.items() if name.startswith(("train/", "val/"))))


def asha(search: Search, around: Surroundings) -> TrialScheduler:
    """Return ASHA with the rules of `launch.pruners.rungs`. Nothing is pruned if the first rung is full training."""
    ends_first = search.rungs != "seconds" and search.grace_epochs >= search.epochs and around.folds == 1
    return FIFOScheduler() if ends_first else FairAsha(search, around)


def no_pruning(search: Search, around: Surroundings) -> TrialScheduler:
    """Return a scheduler that trains every trial to its end."""
    return FIFOScheduler()
