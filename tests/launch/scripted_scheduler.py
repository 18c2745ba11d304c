"""A scheduler that gets scripted results, trial by trial, as from Ray."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import TrialScheduler

from launch.pruners.pruning import build_scheduler
from search_spaces import Search
from visionsweep.run_dir.trials import Trial

ACCURACY = "val/accuracy"
LOSS = "val/loss"


@dataclass(eq=False)
class Scripted:
    """The parts of a trial of ours that a scheduler reads."""

    trial_id: str
    config: dict[str, Any]


def search(metric: str = ACCURACY, **values: Any) -> Search:
    settings = {"grace_epochs": 4, "reduction_factor": 3, "epochs": 40, **values}
    return Search(task="multiclass", space={}, metric=metric, **settings).for_task("multiclass")


class Controller:
    """The part of Ray that its own schedulers ask for waiting trials. There are none here."""

    def get_live_trials(self) -> list[Any]:
        return []

    def get_trials(self) -> list[Any]:
        return []


class Driver:
    """Call a scheduler with trials by our ids, and keep what the run directory would hold of them."""

    def __init__(self, search: Search, past: Iterable[Trial] = ()) -> None:
        self.search = search
        self.scheduler = build_scheduler(search, past)
        self.trials: dict[str, Scripted] = {}
        self.recorded: dict[str, Trial] = {}

    def add(self, name: str, epochs: int | None = None, origin: str = "sampler") -> Scripted:
        config = {"epochs": epochs or self.search.epochs}
        # Ray's own id is never ours.
        self.trials[name] = Scripted(f"ray-{id(self)}-{name}", {"trial_id": name, "config": config, "origin": origin})
        self.recorded.setdefault(name, Trial(name, {}, config, origin=origin))
        self.scheduler.on_trial_add(Controller(), self.trials[name])
        return self.trials[name]

    def continues(
        self, name: str, epoch: int, value: float | None, seconds: float = 1.0, epochs: int | None = None
    ) -> bool:
        trial = self.trials.get(name) or self.add(name, epochs)
        metric = self.search.metric or ""
        metrics = {} if value is None else {metric: value}
        row = {"trial_id": name, "epoch": epoch, "metrics": metrics, "seconds": seconds}
        result = {**row, **metrics, "trial_id": trial.trial_id, "training_iteration": epoch, "status": "running"}
        decision = self.scheduler.on_trial_result(Controller(), trial, result)
        assert decision in (TrialScheduler.CONTINUE, TrialScheduler.STOP)
        self.recorded[name].epochs.append(row)
        return bool(decision == TrialScheduler.CONTINUE)

    def ends(self, name: str, epochs: int, value: float) -> None:
        """End a trial with its last epoch, for which Ray asks no decision."""
        trial = self.trials.get(name) or self.add(name, epochs)
        metric = self.search.metric or ""
        last = {"epoch": epochs, metric: value, "seconds": 1.0, "status": "complete", "done": True}
        self.scheduler.on_trial_complete(Controller(), trial, last)

    def fill(self, values: Iterable[float], epoch: int, prefix: str = "other", **more: Any) -> list[bool]:
        """Report one trial for each value, at `epoch` only. Return whether each continues."""
        return [self.continues(f"{prefix}{number}", epoch, value, **more) for number, value in enumerate(values)]
