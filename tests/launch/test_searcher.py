"""The searcher with scripted results: no training, no Ray session."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces import Branch, Float, Pick, Search
from visionsweep.core.errors import ConfigError

SEARCH = Search(
    task="multiclass",
    space={
        "model": {"backbone": Pick("test_resnet", "test_convnext"), "weights": "none"},
        "optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.3, log=True)}, "adam": {"lr": Float(1e-5, 1e-2, log=True)}}),
        "batch_size": Pick(16, 32),
    },
    epochs=4,
).for_task("multiclass")


def make(tmp_path: Path, name: str = "run", **changes: Any) -> StudySearcher:
    arguments = {"seed": 0, "num_trials": None, "deadline": None, **changes}
    records = arguments.pop("records", None) or Records.create(tmp_path / name, {"search": {}})
    return StudySearcher(arguments.pop("search", SEARCH), records, **arguments)


def result(epoch: int, score: float | None, status: str = "running") -> dict[str, Any]:
    return {"epoch": epoch, "val/accuracy": score, "metrics": {"val/accuracy": score}, "seconds": 1.0, "status": status}


def write(searcher: StudySearcher, ray_id: str, row: dict[str, Any]) -> None:
    """Write what the run's callback would write."""
    searcher.records.epoch({"trial_id": searcher.trial_ids[ray_id], **row})


def test_a_stopped_trial_is_told_pruned_with_its_last_value(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, 0.5))
    searcher.on_trial_complete("a", result(2, 0.6))  # Ray reports the last result only here
    trial = searcher.study.trials[0]
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {1: 0.5, 2: 0.6}


def test_a_complete_trial_has_its_best_value(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    searcher.suggest("a")
    for epoch, score in ((1, 0.5), (2, 0.9), (3, 0.8)):
        searcher.on_trial_result("a", result(epoch, score))
    searcher.on_trial_complete("a", result(4, 0.7, "complete"))
    assert searcher.study.trials[0].state == TrialState.COMPLETE
    assert searcher.study.trials[0].value == 0.9


@pytest.mark.parametrize("status", ["failed", "diverged", "oom"])
def test_a_trial_that_could_not_go_on_is_told_failed(tmp_path: Path, status: str) -> None:
    searcher = make(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, 0.5))
    searcher.on_trial_complete("a", {"status": status, "reason": "", "done": True})
    assert searcher.study.trials[0].state == TrialState.FAIL


def test_a_worker_that_died_is_told_failed(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", None, error=True)
    assert searcher.study.trials[0].state == TrialState.FAIL


def test_the_number_of_trials_and_the_deadline_end_the_proposals(tmp_path: Path) -> None:
    searcher = make(tmp_path, num_trials=2)
    assert isinstance(searcher.suggest("a"), dict)
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") == Searcher.FINISHED
    assert make(tmp_path, "late", deadline=time.monotonic() - 1).suggest("a") == Searcher.FINISHED


def test_warm_starts_come_first_and_are_filled_up_by_the_sampler(tmp_path: Path) -> None:
    warm = {"optimizer": {"name": "adam", "lr": 1e-3}, "batch_size": 16}
    search = Search(**{**SEARCH.__dict__, "warm_start": (warm,)})
    searcher = make(tmp_path, search=search)
    first = searcher.suggest("a")
    assert isinstance(first, dict)
    assert first["config"]["optimizer"] == {"name": "adam", "lr": 1e-3}
    assert first["config"]["batch_size"] == 16
    assert first["config"]["model"]["backbone"] in ("test_resnet", "test_convnext")
    second = searcher.suggest("b")
    assert isinstance(second, dict)
    assert (first["origin"], second["origin"]) == ("warm_start", "sampler")


def sgd(lr: float) -> dict[str, Any]:
    return {"model": {"backbone": "test_resnet"}, "optimizer": {"name": "sgd", "lr": lr}, "batch_size": 16}


def test_a_warm_start_that_does_not_fit_when_its_turn_comes_is_tried_when_it_does(tmp_path: Path) -> None:
    search = Search(**{**SEARCH.__dict__, "warm_start": (sgd(0.1), sgd(0.01), sgd(0.03))})
    searcher = make(tmp_path, search=search)
    too_long = {0.01}
    searcher.proposals.fits = lambda params: params.get("optimizer/sgd/lr") not in too_long

    def next_one(ray_id: str) -> tuple[float | None, str]:
        proposal = searcher.suggest(ray_id)
        assert isinstance(proposal, dict)
        return proposal["config"]["optimizer"]["lr"], proposal["origin"]

    assert [next_one("a"), next_one("b")] == [(0.1, "warm_start"), (0.03, "warm_start")]
    assert next_one("c")[1] == "sampler"
    too_long.clear()
    assert next_one("d") == (0.01, "warm_start")
    assert next_one("e")[1] == "sampler"


def test_a_resumed_run_tries_the_warm_starts_that_it_has_not(tmp_path: Path) -> None:
    search = Search(**{**SEARCH.__dict__, "warm_start": (sgd(0.1), sgd(0.01))})
    searcher = make(tmp_path, search=search)
    searcher.proposals.fits = lambda params: params.get("optimizer/sgd/lr") != 0.01
    for ray_id in ("a", "b", "c"):
        assert isinstance(searcher.suggest(ray_id), dict)
        searcher.on_trial_complete(ray_id, result(4, 0.5, "complete"))
        searcher.records.ended(f"{ord(ray_id) - ord('a'):04d}", "complete", "")
    records, _ = Records.open(searcher.records.run_dir)
    resumed = make(tmp_path, search=search, records=records).suggest("d")
    assert isinstance(resumed, dict)
    assert (resumed["config"]["optimizer"]["lr"], resumed["origin"]) == (0.01, "warm_start")


def test_the_same_seed_proposes_the_same(tmp_path: Path) -> None:
    def proposals(name: str, seed: int) -> list[Any]:
        searcher = make(tmp_path, name, seed=seed)
        configs = []
        for number in range(15):  # past the random start-up
            proposal = searcher.suggest(str(number))
            assert isinstance(proposal, dict)
            configs.append(proposal["config"])
            searcher.on_trial_complete(str(number), result(4, 0.1 * (number % 7), "complete"))
        return configs

    assert proposals("a", 3) == proposals("b", 3)
    assert proposals("c", 4) != proposals("d", 3)


def test_a_resumed_study_stands_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    for ray_id, status in (("a", "complete"), ("b", "pruned"), ("c", "diverged"), ("d", "interrupted")):
        searcher.suggest(ray_id)
        write(searcher, ray_id, result(1, 0.5))
        searcher.on_trial_result(ray_id, result(1, 0.5))
        ours = searcher.trial_ids[ray_id]
        last = {"status": "running" if status == "pruned" else status}
        searcher.on_trial_complete(ray_id, {**result(1, 0.5), **last})
        searcher.records.ended(ours, status, "")

    records, _ = Records.open(searcher.records.run_dir)
    resumed = make(tmp_path, records=records, num_trials=5)
    states = [trial.state for trial in resumed.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [t.params for t in resumed.study.trials] == [t.params for t in searcher.study.trials]
    assert [t.intermediate_values for t in resumed.study.trials] == [{1: 0.5}] * 4

    proposal = resumed.suggest("e")
    assert isinstance(proposal, dict)
    assert (proposal["trial_id"], proposal["resume"]) == ("0003", True)
    resumed.on_trial_complete("e", result(4, 0.8, "complete"))
    assert resumed.study.trials[3].state == TrialState.COMPLETE
    assert resumed.study.trials[3].intermediate_values == {1: 0.5, 4: 0.8}
    proposal = resumed.suggest("f")
    assert isinstance(proposal, dict)
    assert (proposal["trial_id"], proposal["resume"]) == ("0004", False)
    assert resumed.suggest("g") == Searcher.FINISHED


def test_a_space_whose_every_draw_contradicts_itself_is_refused(tmp_path: Path) -> None:
    search = Search(**{**SEARCH.__dict__, "fixed": {"schedule": {"name": "cosine", "warmup_epochs": 9.0}}})
    with pytest.raises(ConfigError, match=r"a hundred configurations in a row were not valid.*warmup_epochs"):
        make(tmp_path, search=search).suggest("a")


def test_a_plain_mistake_is_refused_at_once(tmp_path: Path) -> None:
    search = Search(**{**SEARCH.__dict__, "fixed": {"learning_rate": 1}})
    with pytest.raises(ConfigError, match="unknown key 'learning_rate'"):
        make(tmp_path, search=search).suggest("a")


def test_ten_failures_and_nothing_else_end_the_search(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    for number in range(10):
        assert isinstance(searcher.suggest(str(number)), dict)
        searcher.records.ended(searcher.trial_ids[str(number)], "failed", "no luck")
        searcher.on_trial_complete(str(number), None, error=True)
    assert searcher.suggest("more") == Searcher.FINISHED


def test_a_trial_that_goes_on_is_told_which_epochs_are_recorded(tmp_path: Path) -> None:
    searcher = make(tmp_path)
    searcher.suggest("a")
    write(searcher, "a", result(1, 0.5))
    write(searcher, "a", result(2, 0.6))
    records, _ = Records.open(searcher.records.run_dir)
    proposal = make(tmp_path, records=records).suggest("b")
    assert isinstance(proposal, dict)
    assert (proposal["resume"], proposal["epochs_recorded"]) == (True, 2)
