"""Every pruner that can be named, and one rebuilt from records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune import Callback
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from scripted_scheduler import ACCURACY, LOSS, Controller, Driver, search

from benchmarks.simulate import Floats, simulate
from benchmarks.simulate_ray import RayMethod
from launch.pruners.pruning import FairAsha, build_scheduler
from launch.samplers.replay import ended_as
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces import Float, Pick, Search
from search_spaces.grammar import Space
from visionsweep.core import names
from visionsweep.run_dir.trials import Trial


def scripted_events(num_trials: int, seed: int) -> list[tuple[str, int, float, float, int]]:
    """Return (trial, epoch, value, seconds, its epochs) of many concurrent trials, some of which diverge."""
    rng = np.random.default_rng(seed)
    events = []
    for number in range(num_trials):
        begins = rng.uniform(0, 200)
        final = rng.uniform(0.2, 0.9)
        seconds = float(rng.choice([1.0, 7.0, 60.0]))
        epochs = int(rng.choice([40, 80]))
        for epoch in range(1, epochs):
            value = final * (1 - math.exp(-epoch / 6)) + 0.02 * rng.normal()
            if number % 9 == 4 and epoch == 7:
                value = math.nan
            events.append((begins + epoch, f"{number:04d}", epoch, value, seconds, epochs))
    return [event[1:] for event in sorted(events)]


@pytest.mark.parametrize("rungs", names.RUNGS)
@pytest.mark.parametrize("killed_after", [1, 150, 400])
def test_a_scheduler_rebuilt_from_records_decides_as_one_that_never_stopped(rungs: str, killed_after: int) -> None:
    chosen = search(rungs=rungs, grace_seconds=20.0)
    steady = Driver(chosen)
    stopped = set[str]()
    num_told = 0
    rebuilt: Driver | None = None
    decisions = []
    for name, epoch, value, seconds, epochs in scripted_events(60, seed=3):
        if name in stopped:
            continue
        if num_told == killed_after:
            rebuilt = Driver(chosen, as_recorded(steady, stopped))
            for running in steady.trials.keys() - stopped:
                rebuilt.add(running, steady.recorded[running].config["epochs"])
        continues = steady.continues(name, epoch, value, seconds, epochs)
        if rebuilt is not None:
            assert rebuilt.continues(name, epoch, value, seconds, epochs) == continues, (name, epoch)
            decisions.append(continues)
        if not continues:
            stopped.add(name)
        num_told += 1
    assert len(decisions) > 100
    assert decisions.count(False) > 10


def as_recorded(driver: Driver, stopped: Set[str]) -> list[Trial]:
    """Return trials as `Records` keeps them, without metrics that are not finite."""
    trials = []
    for trial in driver.recorded.values():
        rows = []
        for row in trial.epochs:
            metrics = {name: value for name, value in row["metrics"].items() if math.isfinite(value)}
            rows.append({**row, "metrics": metrics})
        diverged = any(not math.isfinite(value) for row in trial.epochs for value in row["metrics"].values())
        status = "running" if trial.trial_id not in stopped else "diverged" if diverged else "pruned"
        trials.append(Trial(trial.trial_id, trial.params, trial.config, rows, status))
    return trials


def test_every_pruner_that_can_be_named_can_be_built_and_one_line_adds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient(FIFOScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            return TrialScheduler.STOP

    monkeypatch.setitem(names.PRUNERS, "impatient", lambda search, around: Impatient())
    for pruner in names.PRUNERS:
        assert isinstance(build_scheduler(search(pruner=pruner)), TrialScheduler)
    assert not Driver(search(pruner="impatient")).continues("first", 1, 0.5)


@pytest.mark.parametrize(
    ("pruner", "kind"),
    [("stock", AsyncHyperBandScheduler), ("hyperband", AsyncHyperBandScheduler), ("median", MedianStoppingRule)],
)
def test_rays_own_schedulers_compare_the_searchs_metric_in_its_direction(pruner: str, kind: type) -> None:
    scheduler = build_scheduler(search(LOSS, pruner=pruner))
    assert isinstance(scheduler, kind)
    assert scheduler.metric == LOSS
    driver = Driver(search(LOSS, pruner=pruner))
    assert all(driver.continues(f"{number}", epoch, 0.5) for number in range(12) for epoch in range(1, 13))
    # Hyperband puts a trial into a random bracket, and one of its brackets stops no trial so early.
    went_on = [all(driver.continues(f"bad{number}", epoch, 0.9) for epoch in range(1, 13)) for number in range(12)]
    assert not all(went_on)


@pytest.mark.parametrize("pruner", names.PRUNERS)
def test_the_end_of_a_trial_that_could_not_go_on_does_not_end_the_search(pruner: str) -> None:
    driver = Driver(search(pruner=pruner))
    for number in range(6):
        for epoch in range(1, 9):
            driver.continues(f"{number}", epoch, 0.5)
    last = {"status": "diverged", "reason": "the loss is not finite", "done": True}  # as `trainable.py` ends a trial
    driver.scheduler.on_trial_complete(Controller(), driver.trials["0"], last)
    assert driver.continues("next", 1, 0.6)
    assert driver.continues("next", 8, 0.6)


def test_our_scheduler_asks_nothing_of_ray() -> None:
    scheduler = build_scheduler(search())
    assert isinstance(scheduler, FIFOScheduler)  # trials start in the order in which they were proposed
    assert scheduler.set_search_properties(None, None)  # Ray refuses the search where this is False
    assert isinstance(scheduler.debug_string(), str)


class Mixed:
    """Trainings of very different cost and worth, some of which diverge."""

    mode = "max"
    epochs = 40

    def __init__(self) -> None:
        self.space: Space = {"final": Float(0, 1), "cost": Pick(5.0, 20.0, 200.0)}

    def curve(self, config: Mapping[str, Any]) -> Floats:
        curve = np.asarray(config["final"] * (1 - np.exp(-np.arange(1, self.epochs + 1) / 6)))
        curve[6:] = math.nan if config["final"] > 0.95 else curve[6:]
        return curve

    def seconds_per_epoch(self, config: Mapping[str, Any]) -> float:
        return float(config["cost"])


@pytest.mark.parametrize(
    ("rungs", "grace_seconds"),
    [("epochs", 60.0), ("tiers", 60.0), ("seconds", 60.0), ("seconds", 200.0)],  # the last: reached with the last epoch
)
def test_after_a_whole_search_the_records_hold_every_rung_as_the_scheduler_has_it(
    rungs: str, grace_seconds: float, tmp_path: Path
) -> None:
    chosen = Search(
        task="multiclass", space=Mixed().space, epochs=40, rungs=rungs, grace_seconds=grace_seconds, sampler="random"
    )  # type: ignore[arg-type]
    chosen = chosen.for_task("multiclass")
    records = Records.create(tmp_path / "run", {"search": {}})
    searcher = StudySearcher(chosen, records, 0, num_trials=60, deadline=None, valid=lambda config: None)
    scheduler = build_scheduler(chosen)
    method = RayMethod(searcher, scheduler, ACCURACY, 40, Recorded(records))
    simulation = simulate(method, Mixed(), workers=8)
    assert {trial.status for trial in simulation.trials.values()} == {"complete", "pruned", "diverged"}
    assert isinstance(scheduler, FairAsha)
    rebuilt = build_scheduler(chosen, Records.open(tmp_path / "run")[0].trials.values())
    assert isinstance(rebuilt, FairAsha)
    assert rebuilt.rungs.values == scheduler.rungs.values


class Recorded(Callback):  # type: ignore[misc]
    """Writes what `RunCallback` writes, without a terminal."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.records.started(trial.config["trial_id"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "epoch" in result:
            row = {key: result[key] for key in ("epoch", "metrics", "seconds")}
            self.records.epoch({"trial_id": trial.config["trial_id"], **row})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.records.ended(trial.config["trial_id"], ended_as(trial.last_result, ACCURACY), "")
