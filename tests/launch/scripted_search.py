"""A whole search by one worker on functions instead of trainings, with pruning, into a real run directory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.simulate_ray import RayTrial
from launch.pruners.pruning import build_scheduler
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces.grammar import Branch, Float, Int, Maybe, Pick, Space
from search_spaces.search import Search
from visionsweep.core.errors import Contradiction

EPOCHS = 9
METRIC = "val/accuracy"
Curve = Callable[[dict[str, Any]], list[float]]
Costs = Callable[[dict[str, Any]], dict[str, float]]

CONDITIONAL: Space = {
    "optimizer": Branch(
        {"sgd": {"lr": Float(1e-3, 0.3, log=True), "nesterov": Pick(True, False)}, "adam": {"lr": Float(0, 1)}}
    ),
    "rotate": Maybe({"degrees": Float(5, 30)}),
    "depth": Int(1, 5),
}
SQUARE: Space = {"a": Float(0, 1), "b": Float(0, 1)}


def search(space: Space, **values: Any) -> Search:
    settings = {"epochs": EPOCHS, "grace_epochs": 1, "reduction_factor": 3, **values}
    return Search(task="multiclass", space=space, metric=METRIC, **settings).for_task("multiclass")


def rising(final: float, bias: float = 0.0) -> list[float]:
    """Return values that rise to `final`. The first is `bias` too high, and each later one less so."""
    return [final + bias * (1 - epoch / EPOCHS) - 1.0 * (1 - epoch / EPOCHS) for epoch in range(1, EPOCHS + 1)]


class Searching:
    """A search by one worker: proposals are trained one after the other, with pruning, into a run directory."""

    def __init__(
        self,
        folder: Path,
        chosen: Search,
        curve: Curve,
        seed: int = 0,
        valid: Any = None,
        costs: Costs | None = None,
        learned: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.folder = folder
        self.search = chosen
        self.curve = curve
        self.costs = costs or (lambda config: {})
        self.seed = seed
        self.valid = valid or (lambda config: None)
        exists = (folder / "search.json").exists()
        self.records = Records.open(folder)[0] if exists else Records.create(folder, {"search": {}})
        past = list(self.records.trials.values())
        self.searcher = StudySearcher(
            chosen, self.records, seed, num_trials=None, deadline=None, valid=self.valid, learned=learned
        )
        self.scheduler = build_scheduler(chosen, past)

    def propose(self, name: str) -> dict[str, Any]:
        proposal = self.searcher.suggest(name)
        assert isinstance(proposal, dict)
        return proposal

    def step(self) -> dict[str, Any]:
        """The configuration of one more trial, trained to its end."""
        name = f"ray-{len(self.records.trials)}"
        proposal = self.propose(name)
        ours = proposal["trial_id"]
        config = proposal["config"]
        trial = RayTrial(name, proposal)
        self.scheduler.on_trial_add(None, trial)
        self.records.started(ours)
        status = "complete"
        last = {}
        full = config["epochs"]
        for epoch, value in enumerate(self.curve(config), start=1):
            if not math.isfinite(value):
                status = "diverged"
                last = {"status": "diverged", "reason": "", "done": True}
                break
            row = {"epoch": epoch, "metrics": {METRIC: value}, "seconds": 1.0, **self.costs(config)}
            last = {**row, METRIC: value, "status": "complete" if epoch == full else "running"}
            self.records.epoch({"trial_id": ours, **row})
            if epoch == full:
                break
            if self.scheduler.on_trial_result(None, trial, last) == "STOP":
                status = "pruned"
                break
            self.searcher.on_trial_result(name, last)
        self.searcher.on_trial_complete(name, last)
        self.records.ended(ours, status, "")
        return dict(config)

    def best(self) -> float:
        """The best last value of a trial that was trained to the full."""
        found = [trial.values(METRIC).get(EPOCHS, -math.inf) for trial in self.records.trials.values()]
        return max(found)


def bumpy(config: dict[str, Any]) -> list[float]:
    """Return values for CONDITIONAL: adam with depth 3 is best, and a high rate of SGD diverges after two epochs."""
    lr = config["optimizer"]["lr"]
    sgd = config["optimizer"]["name"] == "sgd"
    if sgd and lr > 0.15:
        return [0.1, 0.1, math.nan]
    off = (math.log10(lr) + 1.5) ** 2 / 4 if sgd else (lr - 0.4) ** 2
    return rising(0.9 - off - 0.05 * abs(config["depth"] - 3) - (0.1 if config["rotate"] else 0) - 0.1 * sgd)


def no_deep_sgd(config: dict[str, Any]) -> None:
    if config["optimizer"]["name"] == "sgd" and config["depth"] >= 2:
        raise Contradiction("sgd is for flat ones")


def quadratic(config: dict[str, Any]) -> list[float]:
    return rising(1 - 4 * (config["a"] - 0.7) ** 2 - 4 * (config["b"] - 0.2) ** 2)
