"""Searches that compare by several objectives: pruning, proposals, the study and the resumed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from scripted_search import METRIC, SQUARE, Searching, rising, search

from launch.pruners.rungs import ParetoRungs
from search_spaces.search import Search
from visionsweep.core.names import SAMPLERS


def trade(config: dict[str, Any]) -> list[float]:
    """Return values that rise with the cost along `a`. Any `b` but 0.3 is worse and gains nothing."""
    return rising(0.9 * config["a"] - 2 * (config["b"] - 0.3) ** 2)


def latency(config: dict[str, Any]) -> dict[str, float]:
    return {"latency_ms": 1 + 9 * config["a"] ** 2, "parameters": 10.0}


def comparing(sampler: str = "fidelity", **values: Any) -> Search:
    chosen = {"sampler": sampler, "objectives": [METRIC, "-latency_ms"], **values}
    return search(SQUARE, **chosen)


def hypervolume(running: Searching) -> float:
    """Return the area that the complete trials dominate, above accuracy 0 and below 10 ms."""
    pairs = [trial.outcome(running.search.compared) for trial in running.records.trials.values()]
    statuses = [trial.status for trial in running.records.trials.values()]
    points = sorted(pair for pair, status in zip(pairs, statuses, strict=True) if pair and status == "complete")
    area = 0.0
    best = -10.0
    for value, negative_ms in reversed(points):  # from the most accurate
        if value > 0 and negative_ms > best:
            area += value * (negative_ms - best)
            best = negative_ms
    return area


def test_dominated_trials_stop_and_compromises_go_on() -> None:
    rungs = ParetoRungs([4], 3)
    assert rungs.promote(4, (0.5, -5.0))
    assert not rungs.promote(4, (0.4, -6.0))  # behind in both
    assert not rungs.promote(4, (0.3, -7.0))
    assert rungs.promote(4, (0.9, -9.0))  # the most accurate
    assert rungs.promote(4, (0.1, -1.0))  # the fastest
    assert rungs.promote(4, (0.3, -2.0))  # neither, and nothing is better in both
    assert not rungs.promote(4, (0.45, -5.5))


def test_rungs_of_one_dimension_keep_about_one_in_factor() -> None:
    rng = np.random.default_rng(0)
    rungs = ParetoRungs([4], 3)
    values = rng.random(400)
    kept = [rungs.promote(4, (float(value), float(value))) for value in values]  # no conflict: fronts of one
    assert 0.28 < np.mean(kept) < 0.4


def test_a_small_stratum_of_several_objectives_is_compared_with_all() -> None:
    rungs = ParetoRungs([4], 3)
    for value in np.linspace(0.6, 0.9, 12):
        rungs.promote(4, (float(value), -1.0), "fast")
    assert not rungs.promote(4, (0.5, -9.0), "slow")
    for value in np.linspace(0.1, 0.4, 12):
        rungs.promote(4, (float(value), -9.0), "slow")
    assert rungs.promote(4, (0.55, -9.0), "slow")


def test_bad_trials_of_a_warm_start_let_no_compromise_go_on() -> None:
    plain = ParetoRungs([4], 3)
    warm = ParetoRungs([4], 3)
    for value in (0.1, 0.12, 0.11):
        warm.promote(4, (value, -20.0), from_warm_start=True)
    assert not warm.promote(
        4, (0.1, -21.0), from_warm_start=True
    )  # the worst of the given ones alone are recognised too
    rng = np.random.default_rng(0)
    points = [
        (float(accuracy), -float(ms))
        for accuracy, ms in zip(rng.uniform(0.2, 1, 60), rng.uniform(1, 19, 60), strict=True)
    ]
    assert [warm.promote(4, point) for point in points] == [plain.promote(4, point) for point in points]
    assert not warm.promote(4, (0.15, -19.5), from_warm_start=True)


def test_good_trials_of_a_warm_start_raise_the_bar_of_compromises() -> None:
    plain = ParetoRungs([4], 3)
    warm = ParetoRungs([4], 3)
    for value in (0.9, 0.91, 0.92):
        assert warm.promote(4, (value, -1.9 + value), from_warm_start=True)
    assert plain.promote(4, (0.5, -5.0))
    assert not warm.promote(4, (0.5, -5.0))


def test_proposals_cover_the_pareto_front_better_than_chance(tmp_path: Path) -> None:
    area: dict[str, list[float]] = {"fidelity": [], "random": []}
    for sampler in area:
        for seed in range(2):
            chosen = comparing(sampler, pruner="none")
            running = Searching(tmp_path / f"{sampler}{seed}", chosen, trade, seed, costs=latency)
            for _ in range(45):
                running.step()
            area[sampler].append(hypervolume(running))
    assert np.mean(area["fidelity"]) > np.mean(area["random"]) + 0.1, area


@pytest.mark.parametrize("sampler", [name for name, one in SAMPLERS.items() if one.several])
def test_the_study_has_both_values_of_what_is_complete_and_every_state(tmp_path: Path, sampler: str) -> None:
    running = Searching(tmp_path / "run", comparing(sampler), trade, costs=latency)
    for _ in range(20):
        running.step()
    study = running.searcher.study
    records = running.records.trials.values()
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    assert [trial.state for trial in study.trials] == [states[record.status] for record in records]
    assert {record.status for record in records} == {"complete", "pruned"}
    for trial, record in zip(study.trials, records, strict=True):
        last = record.epochs[-1]
        if record.status == "complete":
            assert trial.values == [last["metrics"][METRIC], last["latency_ms"]]
    assert study.best_trials


def test_a_killed_search_of_several_objectives_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    steady = Searching(tmp_path / "steady", comparing(), trade, costs=latency)
    expected = [steady.step() for _ in range(24)]
    found: list[dict[str, Any]] = []
    for upto in (9, 24):
        again = Searching(tmp_path / "killed", comparing(), trade, costs=latency)
        found += [again.step() for _ in range(upto - len(found))]
    assert found == expected


def test_a_trial_without_a_value_of_the_second_objective_is_no_value_for_the_study(tmp_path: Path) -> None:
    running = Searching(tmp_path / "run", comparing(pruner="none"), trade, costs=lambda config: {})
    running.step()
    assert running.searcher.study.trials[0].state == TrialState.FAIL
