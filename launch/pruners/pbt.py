"""Population based training (Jaderberg et al. 2017, arXiv:1711.09846).

The worst trials of a population end. Copies of the best replace them, and train the copied weights further at other
rates.

Ray's own `PopulationBasedTraining` refuses to work with a searcher, and turns one trial into another midway. Here a
copy is a trial of its own. So every trial of a run has one configuration, and one state in which it ended.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from launch.trial_notes import Surroundings
from search_spaces.grammar import Float, walk
from search_spaces.search import Search
from visionsweep.core.objectives import value_of

SIZE = 8  # least number of trials alive at a time; if fewer can run at once, they take turns
QUANTILE = 0.25
LEAST = 4  # size of a population from which a quarter is at least one trial
FACTORS = (0.8, 1.25)


@dataclass(frozen=True)
class Copied:
    """The state that a trial starts from. epoch: the source's last epoch in the copied state."""

    source: str
    epoch: int
    params: dict[str, Any]


class PbtScheduler(FIFOScheduler):  # type: ignore[misc]
    """Scheduler that ends the worst trials and has the best ones copied.

    Trials are compared every `grace_epochs` epochs. One in the lowest quarter of those alive ends. A trial of the
    highest quarter is then queued, for the searcher to propose a copy of it.

    Of the notes `to_copy` is written.
    """

    def __init__(self, search: Search, around: Surroundings) -> None:
        super().__init__()
        self.every = search.grace_epochs
        self.objective = search.compared[0]
        self.notes = around.notes
        self.running = around.running
        self.scores: dict[str, float] = {}  # of those alive, at their last comparison
        self.epochs: dict[str, int] = {}  # of those alive
        for trial in around.past:
            if trial.status in ("running", "interrupted"):
                for row in trial.epochs:
                    self._take(trial.trial_id, {**row, **row["metrics"]})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self.epochs.setdefault(trial.config["trial_id"], 0)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        trial_id = trial.config["trial_id"]
        if not self._take(trial_id, result):
            return TrialScheduler.CONTINUE
        ordered = sorted(self.scores, key=lambda name: (self.scores[name], name))
        share = int(len(ordered) * QUANTILE)
        if len(ordered) >= LEAST and trial_id in ordered[:share]:
            # Seeded by the trial and its epoch alone, so that the same search chooses the same.
            chance = random.Random(f"{trial_id} {result['epoch']}")
            self.notes.to_copy.append(chance.choice(ordered[-share:]))
            return TrialScheduler.STOP
        others = (one.status for one in tune_controller.get_trials() if one is not trial)
        return TrialScheduler.PAUSE if {"PENDING", "PAUSED"} & set(others) else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._leaves(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._leaves(trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._leaves(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Choose new trials first, then those that have trained least."""
        trials = tune_controller.get_trials()
        if self.running is not None and sum(one.status == "RUNNING" for one in trials) >= self.running:
            return None
        waiting = [one for one in trials if one.status in ("PENDING", "PAUSED")]
        trained = {one: self.epochs.get(one.config["trial_id"], 0) for one in waiting}
        return min(waiting, key=lambda one: (one.status == "PAUSED", trained[one]), default=None)

    def _take(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Record an epoch. Returns whether the trial is to be compared now."""
        value = value_of(result, self.objective.name)
        if "epoch" not in result or value is None or not math.isfinite(value):
            return False
        self.epochs[trial_id] = int(result["epoch"])
        if result["epoch"] % self.every:
            return False
        self.scores[trial_id] = self.objective.sign * float(value)
        return True

    def _leaves(self, trial: Any) -> None:
        self.scores.pop(trial.config["trial_id"], None)
        self.epochs.pop(trial.config["trial_id"], None)


def mutated(search: Search, params: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    """Return flat parameters with every real number a fifth lower or a quarter higher, within its range.

    Choices, integers and numbers on a grid stay, so that the copied weights fit.
    """
    ranges = {name: node for name, node, _ in walk(search.full_space) if isinstance(node, Float) and node.step is None}
    return {
        name: min(max(value * chance.choice(FACTORS), ranges[name].low), ranges[name].high) if name in ranges else value
        for name, value in params.items()
    }
