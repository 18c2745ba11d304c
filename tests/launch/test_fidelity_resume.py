"""Our sampler's proposals depend on seed, number and history only. So a killed search resumes as if uninterrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted_search import CONDITIONAL, EPOCHS, METRIC, SQUARE, Searching, bumpy, no_deep_sgd, quadratic, search


@pytest.mark.parametrize("valid", [None, no_deep_sgd], ids=["all goes together", "contradictions"])
def test_a_search_that_was_killed_proposes_what_the_uninterrupted_one_does(tmp_path: Path, valid: Any) -> None:
    chosen = search(CONDITIONAL)
    steady = Searching(tmp_path / "steady", chosen, bumpy, valid=valid)
    expected = [steady.step() for _ in range(40)]
    assert {trial.status for trial in steady.records.trials.values()} >= {"complete", "pruned"}
    assert (len(steady.searcher.study.trials) > 40) == (valid is not None)  # contradictory attempts count there

    killed: list[dict[str, Any]] = []
    for upto in (1, 2, 11, 21, 22, 33, 40):
        again = Searching(tmp_path / "killed", chosen, bumpy, valid=valid)
        killed += [again.step() for _ in range(upto - len(killed))]
        assert killed == expected[:upto], f"proposals differ before number {upto}"
    told = [(trial.status, len(trial.epochs)) for trial in steady.records.trials.values()]
    assert [(trial.status, len(trial.epochs)) for trial in again.records.trials.values()] == told


def test_a_search_killed_in_the_middle_of_a_trial_goes_on_with_it_and_then_as_before(tmp_path: Path) -> None:
    """No epoch of the open trial is lost, so the next proposal equals that of the uninterrupted search."""
    chosen = search(SQUARE)
    steady = Searching(tmp_path / "steady", chosen, quadratic)
    for _ in range(30):
        steady.step()
    expected = steady.propose("next")["config"]

    cut = Searching(tmp_path / "cut", chosen, quadratic)
    for _ in range(29):
        cut.step()
    record = cut.propose("ray-29")
    values = list(steady.records.trials["0029"].values(METRIC).values())
    cut.records.started("0029")
    cut.records.epoch({"trial_id": "0029", "epoch": 1, "metrics": {METRIC: values[0]}, "seconds": 1.0})
    again = Searching(tmp_path / "cut", chosen, quadratic)
    resumed = again.propose("again")
    assert (resumed["trial_id"], resumed["resume"], resumed["config"]) == ("0029", True, record["config"])
    rows = [{"epoch": epoch, METRIC: value, "seconds": 1.0} for epoch, value in enumerate(values, start=1)]
    for row in rows[1:-1]:
        again.searcher.on_trial_result("again", {**row, "status": "running"})
    last_status = "complete" if len(values) == EPOCHS else "running"
    again.searcher.on_trial_complete("again", {**rows[-1], "status": last_status})
    assert again.propose("next")["config"] == expected


def test_another_seed_proposes_something_else(tmp_path: Path) -> None:
    first = Searching(tmp_path / "a", search(SQUARE), quadratic, seed=0)
    other = Searching(tmp_path / "b", search(SQUARE), quadratic, seed=1)
    assert all(first.step() != other.step() for _ in range(15))
