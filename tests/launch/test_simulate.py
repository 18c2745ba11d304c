"""The virtual clock on a scripted black box, where every time is known by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from benchmarks.simulate import BlackBox, Clock, Delay, Kill, Simulation, incumbent, p50_p99, simulate, value_at
from benchmarks.simulate_ray import RayMethod

NAN = math.nan


class Scripted:
    """Answers configuration {"curve": [...], "seconds": s} with just that."""

    space: Mapping[str, Any] = {}
    mode = "max"
    epochs = 3

    def curve(self, config: Mapping[str, Any]) -> np.ndarray:
        return np.array(config["curve"])

    def seconds_per_epoch(self, config: Mapping[str, Any]) -> float:
        return float(config["seconds"])


class Told:
    """Propose the given configurations, prune at the given (trial, epoch), and log the calls with the clock's time."""

    def __init__(self, *configs: dict[str, Any] | None, prune: tuple[tuple[str, int], ...] = ()) -> None:
        self.configs = list(configs)
        self.prune = prune
        self.clock = Clock()
        self.calls: list[tuple[Any, ...]] = []

    def suggest(self, trial_id: str) -> Mapping[str, Any] | None:
        self.calls.append(("suggest", self.clock(), trial_id))
        return self.configs.pop(0) if self.configs else None

    def on_epoch(self, trial_id: str, epoch: int, value: float, seconds: float) -> bool:
        self.calls.append(("epoch", self.clock(), trial_id, epoch, value, seconds))
        return (trial_id, epoch) not in self.prune

    def on_end(self, trial_id: str, status: str) -> None:
        self.calls.append(("end", self.clock(), trial_id, status))

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


def run(method: Told, workers: int = 1, **more: Any) -> Simulation:
    black_box: BlackBox = Scripted()
    return simulate(method, black_box, workers=workers, clock=method.clock, **more)


def config(*curve: float, seconds: float = 1.0) -> dict[str, Any]:
    return {"curve": curve, "seconds": seconds}


def outcomes(simulation: Simulation) -> dict[str, tuple[str, int]]:
    return {trial_id: (trial.status, trial.epochs) for trial_id, trial in simulation.trials.items()}


def test_a_full_trial_is_told_epoch_by_epoch_and_ends_complete() -> None:
    method = Told(config(0.1, 0.2, 0.3, seconds=2.0))
    simulation = run(method)
    assert simulation.rows == [(2.0, "0000", 1, 0.1), (4.0, "0000", 2, 0.2), (6.0, "0000", 3, 0.3)]
    assert method.named("epoch") == [
        (2.0, "0000", 1, 0.1, 2.0),
        (4.0, "0000", 2, 0.2, 4.0),
        (6.0, "0000", 3, 0.3, 6.0),
    ]
    assert method.named("end") == [(6.0, "0000", "complete")]
    assert outcomes(simulation) == {"0000": ("complete", 3)}
    assert (simulation.spent_s, simulation.end_s) == (6.0, 6.0)


def test_a_free_worker_gets_the_next_trial_at_once() -> None:
    method = Told(config(0, 0, 0, seconds=1.0), config(0, 0, 0, seconds=5.0), config(0, 0, 0, seconds=2.0))
    simulation = run(method, workers=2)
    assert method.named("suggest")[:3] == [(0.0, "0000"), (0.0, "0001"), (3.0, "0002")]
    assert [row[:3] for row in simulation.rows if row[1] == "0002"] == [
        (5.0, "0002", 1),
        (7.0, "0002", 2),
        (9.0, "0002", 3),
    ]
    assert method.named("epoch")[4] == (5.0, "0002", 1, 0.0, 2.0)  # seconds since the trial began, not the search
    assert (simulation.spent_s, simulation.end_s) == (3 + 15 + 6, 15.0)


def test_a_pruned_trial_frees_its_worker() -> None:
    method = Told(config(0.5, 0.6, 0.7), config(0.1, 0.2, 0.3), prune=(("0000", 1),))
    simulation = run(method)
    assert outcomes(simulation) == {"0000": ("pruned", 1), "0001": ("complete", 3)}
    assert simulation.end_s == 4.0


def test_pruning_in_the_last_epoch_comes_too_late() -> None:
    assert outcomes(run(Told(config(0, 0, 0), prune=(("0000", 3),)))) == {"0000": ("complete", 3)}


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_told_and_ends_the_trial_as_diverged(bad: float) -> None:
    method = Told(config(0.5, bad, bad), config(0.1, 0.2, bad))
    simulation = run(method)
    assert outcomes(simulation) == {"0000": ("diverged", 2), "0001": ("diverged", 3)}
    assert [call[2] for call in method.named("epoch")] == [1, 2, 1, 2, 3]
    assert method.named("end") == [(2.0, "0000", "diverged"), (5.0, "0001", "diverged")]


def test_the_budget_cuts_running_trials_and_counts_their_time() -> None:
    method = Told(config(0.1, 0.2, 0.3, seconds=2.0), config(0.1, 0.2, 0.3, seconds=3.0))
    simulation = run(method, workers=2, budget_s=5.0)
    assert outcomes(simulation) == {"0000": ("interrupted", 2), "0001": ("interrupted", 1)}
    assert method.named("end") == [(5.0, "0000", "interrupted"), (5.0, "0001", "interrupted")]
    assert (simulation.spent_s, simulation.end_s) == (10.0, 5.0)


def test_an_epoch_that_ends_with_the_budget_counts() -> None:
    assert outcomes(run(Told(config(0, 0, 0)), budget_s=3.0)) == {"0000": ("complete", 3)}


def test_no_more_than_num_trials_are_asked_for() -> None:
    method = Told(*[config(0, 0, 0)] * 9)
    assert len(run(method, workers=2, num_trials=5).trials) == 5
    assert len(method.named("suggest")) == 5


def test_a_method_with_nothing_now_is_asked_again_when_a_trial_has_ended() -> None:
    method = Told(config(0, 0, 0), None, config(0, 0, 0))
    simulation = run(method, workers=2)
    assert method.named("suggest")[:3] == [(0.0, "0000"), (0.0, "0001"), (3.0, "0001")]
    assert outcomes(simulation) == {"0000": ("complete", 3), "0001": ("complete", 3)}


def test_a_killed_trial_loses_its_current_epoch_and_goes_on_after_the_restart() -> None:
    method = Told(config(0.1, 0.2, 0.3, seconds=2.0))
    simulation = run(method, events=[Kill(at_s=3.5, worker=0, restart_s=10.0)])
    assert simulation.rows == [(2.0, "0000", 1, 0.1), (15.5, "0000", 2, 0.2), (17.5, "0000", 3, 0.3)]
    assert outcomes(simulation) == {"0000": ("complete", 3)}
    assert simulation.spent_s == 17.5


def test_a_delayed_epoch_takes_longer_and_the_next_one_does_not() -> None:
    method = Told(config(0.1, 0.2, 0.3, seconds=2.0))
    simulation = run(method, events=[Delay(at_s=2.5, worker=0, seconds=4.0), Delay(at_s=3.0, worker=0, seconds=1.0)])
    assert [row[0] for row in simulation.rows] == [2.0, 9.0, 11.0]


def test_what_happens_to_an_idle_worker_changes_nothing() -> None:
    plain = run(Told(config(0, 0, 0)), workers=2)
    hit = run(Told(config(0, 0, 0)), workers=2, events=[Kill(1.0, worker=1, restart_s=9.0), Delay(1.5, 1, 9.0)])
    assert (hit.rows, hit.trials, hit.end_s) == (plain.rows, plain.trials, plain.end_s)


def test_ten_thousand_trials_on_a_thousand_workers_keep_every_worker_busy() -> None:
    simulation = run(Told(*[config(0, 0, 0)] * 10_000), workers=1000)
    assert [trial.status for trial in simulation.trials.values()] == ["complete"] * 10_000
    assert (len(simulation.rows), simulation.end_s, simulation.spent_s) == (30_000, 30.0, 30_000.0)


def test_every_decision_is_timed_and_the_black_box_is_not() -> None:
    simulation = run(Told(*[config(0, 0, 0)] * 4), num_trials=4)
    assert (len(simulation.suggest_s), len(simulation.epoch_s)) == (4, 12)
    p50, p99 = p50_p99(simulation.epoch_s)
    assert 0 < p50 <= p99
    assert np.isnan(p50_p99(np.array([]))).all()


def test_the_incumbent_is_the_best_finite_value_at_any_epoch_of_any_trial() -> None:
    simulation = run(Told(config(0.3, 0.9, 0.2), config(0.5, math.inf, 0), config(0.95, 0.1, 0.1)))
    times, values = incumbent(simulation, "max")
    assert (times.tolist(), values.tolist()) == ([1.0, 2.0, 6.0], [0.3, 0.9, 0.95])
    times, values = incumbent(simulation, "min")
    assert (times.tolist(), values.tolist()) == ([1.0, 3.0, 7.0], [0.3, 0.2, 0.1])
    assert [value_at(times, values, t) for t in (1.0, 2.9, 3.0, 99.0)] == [0.3, 0.3, 0.2, 0.1]
    assert math.isnan(value_at(times, values, 0.9))
    assert len(incumbent(run(Told(config(NAN, 0, 0))), "max")[0]) == 0


class Recording(Searcher):
    """Propose the given configurations, with trial ids of its own, and log its calls."""

    def __init__(self, *configs: dict[str, Any]) -> None:
        super().__init__(metric="score", mode="max")
        self.configs = list(configs)
        self.told = []

    def suggest(self, trial_id: str) -> Any:
        if not self.configs:
            return Searcher.FINISHED
        return {"trial_id": f"ours-{trial_id}", "config": self.configs.pop(0), "resume": False}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.told.append((trial_id, "result", result["epoch"], result["score"]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        assert result is not None
        self.told.append((trial_id, "end", result["status"], result.get("epoch"), result.get("score"), result["done"]))


def driven(searcher: Searcher, scheduler: TrialScheduler, **more: Any) -> Simulation:
    return simulate(RayMethod(searcher, scheduler, "score", epochs=3), Scripted(), workers=1, **more)


def test_ray_tells_the_searcher_a_trials_last_result_once_in_its_end() -> None:
    searcher = Recording(config(0.1, 0.2, 0.3))
    assert outcomes(driven(searcher, FIFOScheduler())) == {"0000": ("complete", 3)}
    assert searcher.told == [
        ("ray-0000", "result", 1, 0.1),
        ("ray-0000", "result", 2, 0.2),
        ("ray-0000", "end", "complete", 3, 0.3, True),
    ]


def test_ray_tells_the_searcher_of_a_stopped_trial_with_the_result_that_stopped_it() -> None:
    asha = AsyncHyperBandScheduler(time_attr="epoch", metric="score", mode="max", max_t=3, grace_period=1)
    searcher = Recording(config(0.5, 0.6, 0.7), config(0.1, 0.2, 0.3))
    assert outcomes(driven(searcher, asha)) == {"0000": ("complete", 3), "0001": ("pruned", 1)}
    assert searcher.told[-1] == ("ray-0001", "end", "running", 1, 0.1, True)


def test_a_diverged_trial_reports_its_end_and_no_value() -> None:
    searcher = Recording(config(0.1, NAN, NAN))
    driven(searcher, FIFOScheduler())
    assert searcher.told == [("ray-0000", "result", 1, 0.1), ("ray-0000", "end", "diverged", None, None, True)]


def test_a_trial_that_the_budget_cuts_is_told_as_interrupted() -> None:
    searcher = Recording(config(0.1, 0.2, 0.3))
    driven(searcher, FIFOScheduler(), budget_s=1.5)
    assert searcher.told[-1] == ("ray-0000", "end", "interrupted", None, None, True)
