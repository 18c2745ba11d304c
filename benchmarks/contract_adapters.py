"""What `searcher_contract.py` drives: the interface, and visionsweep's searcher behind it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial
from ray.tune.schedulers import TrialScheduler

from benchmarks.simulate_ray import RayTrial
from launch.pruners.pruning import build_scheduler
from launch.samplers.history import INFEASIBLE
from launch.samplers.replay import ended_as
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces.grammar import Float, Int
from search_spaces.search import Search

EPOCHS = 9
METRIC = "val/accuracy"
SEED = 3
SPACE: Mapping[str, Float | Int] = {"lr": Float(1e-4, 1.0, log=True), "depth": Int(1, 5)}
SEARCH = Search(
    task="multiclass", space=SPACE, metric=METRIC, epochs=EPOCHS, grace_epochs=1, reduction_factor=3
).for_task("multiclass")

_folders = itertools.count()


class Adapter(Protocol):
    """A search, driven trial by trial. The scenario chooses the trials' names."""

    @property
    def study(self) -> optuna.Study: ...

    def start(self, name: str) -> dict[str, Any]:
        """Propose: the parameters, flat."""

    def epoch(self, name: str, epoch: int, value: float) -> bool:
        """Report an epoch, counted from 1. Return whether the trial continues. The last epoch ends it."""

    def end(self, name: str) -> None:
        """Its training is over: it was stopped, came to NaN, or is through."""

    def fail(self, name: str) -> None: ...
    def out_of_memory(self, name: str) -> None: ...

    def spend_budget(self) -> None:
        """End the search with all that still runs."""

    def trial(self, name: str) -> FrozenTrial: ...
    def infeasible(self, name: str) -> bool: ...

    def snapshot(self) -> None:
        """Write what is written from time to time, if not everything is written at once."""

    def killed(self) -> Adapter:
        """The search in a new process, from what is on the disk."""

    def unfinished(self) -> dict[str, int]:
        """Return the trials of a restored search that run again, each with its last epoch."""

    def num_known(self) -> int:
        """Return how many trials a restored search knows."""

    def another(self) -> Adapter:
        """A new search with the same settings and seed."""


class Ours:
    """StudySearcher and FairAsha. Everything goes to the run directory at once, as `RunCallback` writes it."""

    def __init__(self, folder: Path, records: Records | None = None) -> None:
        self.folder = folder
        self.records = records or Records.create(folder / f"run-{next(_folders)}", {"search": {}})
        past = list(self.records.trials.values())
        self.searcher = StudySearcher(SEARCH, self.records, SEED, None, None, valid=lambda config: None)
        self.scheduler = build_scheduler(SEARCH, past)
        self.running: dict[str, RayTrial] = {}
        self.ours: dict[str, str] = {}  # name -> trial id of the run

    @property
    def study(self) -> optuna.Study:
        return self.searcher.study

    def start(self, name: str) -> dict[str, Any]:
        proposal = self._suggested(name)
        config = proposal["config"]
        return {key: config[key] for key in SPACE}

    def epoch(self, name: str, epoch: int, value: float) -> bool:
        trial = self.running[name]
        done = epoch == EPOCHS
        row = {"epoch": epoch, "metrics": {METRIC: value} if math.isfinite(value) else {}, "seconds": 1.0}
        trial.last_result = {**row, METRIC: value, "status": "complete" if done else "running", "done": done}
        continues = not done and self.scheduler.on_trial_result(None, trial, trial.last_result) != TrialScheduler.STOP
        if continues:
            self.searcher.on_trial_result(name, trial.last_result)
        self.records.epoch({"trial_id": self.ours[name], **row})
        return continues

    def end(self, name: str) -> None:
        trial = self.running.pop(name)
        self._complete(name, trial, trial.last_result, ended_as(trial.last_result, METRIC))

    def fail(self, name: str) -> None:
        trial = self.running.pop(name)
        self.scheduler.on_trial_error(None, trial)
        self.searcher.on_trial_complete(name, error=True)
        self.records.ended(self.ours[name], "failed", "")

    def out_of_memory(self, name: str) -> None:
        self._last_word(name, "oom")

    def spend_budget(self) -> None:
        for name in list(self.running):
            self._last_word(name, "interrupted")  # the trainable sees to it, at the deadline

    def trial(self, name: str) -> FrozenTrial:
        return self.study.trials[int(self.ours[name])]

    def infeasible(self, name: str) -> bool:
        return bool(self.trial(name).user_attrs.get(INFEASIBLE))

    def snapshot(self) -> None: ...

    def killed(self) -> Ours:
        again = Ours(self.folder, Records.open(self.records.run_dir)[0])
        again.ours = dict(self.ours)
        return again

    def unfinished(self) -> dict[str, int]:
        names = {ours: name for name, ours in self.ours.items()}
        found = {}
        for waiting in list(self.searcher.unfinished):
            name = names[waiting.trial_id]
            proposal = self._suggested(name)
            assert proposal["trial_id"] == waiting.trial_id
            found[name] = int(proposal["epochs_recorded"])
        return found

    def num_known(self) -> int:
        return len(self.records.trials)

    def another(self) -> Ours:
        return Ours(self.folder)

    def _suggested(self, name: str) -> dict[str, Any]:
        proposal = self.searcher.suggest(name)
        assert isinstance(proposal, dict), proposal
        self.running[name], self.ours[name] = RayTrial(f"ray-{name}", proposal), proposal["trial_id"]
        self.scheduler.on_trial_add(None, self.running[name])
        self.records.started(proposal["trial_id"])
        return proposal

    def _last_word(self, name: str, status: str) -> None:
        """End a trial as the trainable ends one that cannot continue: with a result without an epoch."""
        self._complete(name, self.running.pop(name), {"status": status, "reason": "", "done": True}, status)

    def _complete(self, name: str, trial: RayTrial, result: dict[str, Any], status: str) -> None:
        self.scheduler.on_trial_complete(None, trial, result)
        self.searcher.on_trial_complete(name, result)
        self.records.ended(self.ours[name], status, "")
