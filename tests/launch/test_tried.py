"""A finite space: no configuration is trained twice, and the search ends when all were tried. No training, no Ray."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from launch.samplers.tried import Tried, nothing_left
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces import Branch, Float, Int, Maybe, Pick, Search
from search_spaces.finite import identity
from search_spaces.grammar import Space
from visionsweep.core import names
from visionsweep.core.errors import ConfigError, Contradiction
from visionsweep.run_dir.trials import Trial

FOUR: Space = {"batch_size": Pick(16, 32), "model": {"depth": Pick(1, 2)}}
NESTED: Space = {
    "optimizer": Branch({"sgd": {"nesterov": Pick(True, False), "momentum": Float(0.0, 0.9, step=0.9)}, "adam": {}}),
    "rotate": Maybe({"degrees": Int(10, 20, step=10)}),
}  # (2 * 2 + 1) * (1 + 2)


def make(folder: Path, space: Space, valid: Any = None, **changes: Any) -> StudySearcher:
    """A searcher on a new run, or on the one that is there."""
    limits = {"num_trials": changes.pop("num_trials", None), "deadline": changes.pop("deadline", None)}
    seed = changes.pop("seed", 0)
    search = Search(task="multiclass", space=space, **{"epochs": 4, **changes}).for_task("multiclass")
    exists = (folder / "search.json").exists()
    records = Records.open(folder)[0] if exists else Records.create(folder, {"search": {}})
    return StudySearcher(search, records, seed, **limits, valid=valid or (lambda config: None))


def end(searcher: StudySearcher, name: str, status: str) -> None:
    """End a trial as Ray and the run's callback would."""
    ours = searcher.trial_ids[name]
    score = 0.1 * (int(ours) % 7)
    row = {"epoch": 4 if status == "complete" else 1, "seconds": 1.0, "metrics": {"val/accuracy": score}}
    searcher.records.epoch({"trial_id": ours, **row})
    last = {**row, "val/accuracy": score, "status": "running" if status == "pruned" else status}
    searcher.on_trial_complete(name, None if status == "failed" else last, error=status == "failed")
    searcher.records.ended(ours, status, "")


def train(searcher: StudySearcher, most: int = 100, status: str = "complete") -> list[dict[str, Any]]:
    """Return the proposed configurations, each ended before the next, until the search is finished."""
    configs = []
    for number in range(most):
        name = f"{len(searcher.records.trials)}-{number}"
        proposal = searcher.suggest(name)
        if proposal == Searcher.FINISHED:
            return configs
        assert isinstance(proposal, dict)
        configs.append(proposal["config"])
        end(searcher, name, status)
    return configs


def num_distinct(configs: list[dict[str, Any]]) -> int:
    return len({identity(config) for config in configs})


@pytest.mark.parametrize("sampler", names.SAMPLERS)
@pytest.mark.parametrize(("space", "number"), [(FOUR, 4), (NESTED, 15), ({}, 1)], ids=["four", "nested", "none"])
def test_every_sampler_tries_every_configuration_once(tmp_path: Path, sampler: str, space: Space, number: int) -> None:
    searcher = make(tmp_path / "run", space, sampler=sampler, num_trials=50)
    configs = train(searcher)
    assert len(configs) == num_distinct(configs) == number
    said = "the only configuration was tried" if number == 1 else f"all {number} configurations were tried"
    assert searcher.all_tried == said
    assert {trial.state for trial in searcher.study.trials} <= {TrialState.COMPLETE, TrialState.FAIL}


@pytest.mark.parametrize("status", ["complete", "pruned", "diverged", "oom"])
def test_what_the_same_seed_would_give_again_is_not_tried_again(tmp_path: Path, status: str) -> None:
    configs = train(make(tmp_path / "run", FOUR), status=status)
    assert len(configs) == num_distinct(configs) == 4


def test_what_failed_is_tried_once_more_after_everything_else(tmp_path: Path) -> None:
    searcher = make(tmp_path / "run", FOUR)
    first = searcher.suggest("a")
    assert isinstance(first, dict)
    end(searcher, "a", "failed")
    others = train(searcher)
    assert num_distinct(others[:3]) == 3
    assert [identity(config) for config in others[3:]] == [identity(first["config"])]
    assert num_distinct([first["config"], *others]) == 4


def test_what_fails_twice_is_given_up(tmp_path: Path) -> None:
    searcher = make(tmp_path / "run", FOUR)
    configs = train(searcher, status="failed")
    assert set(Counter(map(identity, configs)).values()) == {2}
    assert len(configs) == 8
    assert searcher.all_tried == "all 4 configurations were tried"


def test_workers_train_different_configurations_at_the_same_time(tmp_path: Path) -> None:
    searcher = make(tmp_path / "run", FOUR)
    running = [searcher.suggest(name) for name in "abcd"]
    assert num_distinct([proposal["config"] for proposal in running if isinstance(proposal, dict)]) == 4
    assert searcher.suggest("e") is None, "one of them may fail"
    assert searcher.all_tried is None
    for name in "abc":
        end(searcher, name, "complete")
    assert searcher.suggest("e") is None
    end(searcher, "d", "failed")
    again = searcher.suggest("e")
    assert isinstance(again, dict)
    assert again["config"] == running[3]["config"]
    assert searcher.suggest("f") is None
    end(searcher, "e", "complete")
    assert searcher.suggest("f") == Searcher.FINISHED


def test_a_resumed_run_goes_on_with_what_is_left_and_then_says_so(tmp_path: Path) -> None:
    searcher = make(tmp_path / "run", FOUR)
    for name in "ab":
        searcher.suggest(name)
    end(searcher, "a", "complete")
    resumed = make(tmp_path / "run", FOUR)
    assert nothing_left(resumed.search, resumed.records.trials) is None
    assert num_distinct(train(resumed)) == 3, "the one that was cut off first"
    assert len(resumed.records.trials) == 4
    again = make(tmp_path / "run", FOUR, num_trials=7)
    assert again.suggest("a") == Searcher.FINISHED
    assert again.all_tried == "all 4 configurations were tried"


@pytest.mark.parametrize("where", ["end", "start"])
def test_a_rebuilt_search_proposes_what_the_first_one_would_have(tmp_path: Path, where: str) -> None:
    whole = train(make(tmp_path / "whole", NESTED), most=14)
    cut = 11 if where == "end" else 2
    first = train(make(tmp_path / "cut", NESTED), most=cut)
    assert first + train(make(tmp_path / "cut", NESTED), most=14 - cut) == whole


def test_records_alone_tell_that_nothing_is_left(tmp_path: Path) -> None:
    # Real names: here the schema judges.
    model = {"backbone": "resnet18", "weights": "none"}
    sgd = {"name": "sgd", "lr": 0.1}
    space = {"model": model, "optimizer": sgd, "batch_size": Pick(16, 32, 32.0)}
    search = Search(task="multiclass", space=space, epochs=4).for_task("multiclass")
    configs = [search.draw(_Picked(size)) for size in (16, 32)]
    trials = {f"{number:04d}": Trial(f"{number:04d}", {}, config) for number, config in enumerate(configs)}
    assert nothing_left(search, trials) is None, "they run"
    for trial in trials.values():
        trial.status = "complete"
    assert nothing_left(search, trials) == "all 2 configurations were tried"
    trials["0001"].status = "failed"
    assert nothing_left(search, trials) is None, "it may be tried once more"
    assert nothing_left(search, {"0000": trials["0000"]}) is None
    without = Search(task="multiclass", space={"model": model, "optimizer": sgd, "batch_size": 8}, epochs=4).for_task(
        "multiclass"
    )
    assert nothing_left(without, {}) is None
    done = Trial("0000", {}, without.draw(_Picked(None)), status="complete")
    assert nothing_left(without, {"0000": done}) == "the only configuration was tried"


class _Picked:
    def __init__(self, value: Any) -> None:
        self.value = value

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.value

    suggest_float = suggest_int = None  # type: ignore[assignment]


def test_a_warm_start_that_says_the_same_twice_is_tried_once(tmp_path: Path) -> None:
    first = {"batch_size": 32, "model": {"depth": 1}}
    second = {"batch_size": 16, "model": {"depth": 1}}
    searcher = make(tmp_path / "run", FOUR, warm_start=(first, first, second))
    configs = train(searcher)
    assert [config["batch_size"] for config in configs[:2]] == [32, 16]
    assert len(configs) == num_distinct(configs) == 4
    origins = [trial.origin for trial in searcher.records.trials.values()]
    assert origins == ["warm_start", "warm_start", "sampler", "sampler"]


def test_an_arm_without_parameters_is_tried_once_beside_one_without_end(tmp_path: Path) -> None:
    space = {"optimizer": Branch({"plain": {}, "sgd": {"lr": Float(1e-3, 0.3, log=True)}})}
    for sampler in ("fidelity", "random", "tpe"):
        configs = train(make(tmp_path / sampler, space, sampler=sampler), most=25)
        assert len(configs) == num_distinct(configs) == 25


def test_configurations_that_contradict_themselves_are_not_waited_for(tmp_path: Path) -> None:
    def valid(config: dict[str, Any]) -> None:
        if config["model"]["depth"] == 2 and config["batch_size"] == 32:
            raise Contradiction("deep ones take small batches")

    searcher = make(tmp_path / "run", FOUR, valid)
    assert len(train(searcher)) == 3
    assert searcher.all_tried == "all 3 configurations were tried"


def test_the_one_valid_configuration_of_many_is_found(tmp_path: Path) -> None:
    def valid(config: dict[str, Any]) -> None:
        if config["a"] != 137:
            raise Contradiction("a must be 137")

    searcher = make(tmp_path / "run", {"a": Int(1, 1000)}, valid, sampler="random")
    assert [config["a"] for config in train(searcher)] == [137]
    assert searcher.all_tried == "the only configuration was tried"


def test_a_finite_space_whose_every_configuration_contradicts_itself_is_refused(tmp_path: Path) -> None:
    def valid(config: dict[str, Any]) -> None:
        raise Contradiction("never")

    with pytest.raises(ConfigError, match="a hundred configurations in a row were not valid; the last one: never"):
        make(tmp_path / "run", FOUR, valid).suggest("a")


def test_population_based_training_goes_on_with_copies(tmp_path: Path) -> None:
    assert len(train(make(tmp_path / "run", FOUR, pruner="pbt"), most=12)) == 12


def test_nothing_that_does_not_fit_into_the_budget_is_tried_and_nothing_is_said_of_all(tmp_path: Path) -> None:
    searcher = make(tmp_path / "run", FOUR, deadline=time.time() + 3600)
    searcher.proposals.fits = lambda params: params["batch_size"] == 32
    assert {config["batch_size"] for config in train(searcher)} == {32}
    assert searcher.all_tried is None


def test_a_large_finite_space_costs_a_proposal_nothing(tmp_path: Path) -> None:
    space = {f"p{number}": Int(1, 10) for number in range(12)}
    search = Search(task="multiclass", space=space, epochs=4).for_task("multiclass")
    config = {**dict.fromkeys(space, 1), "task": "multiclass", "epochs": 4}
    trials = {str(n): Trial(str(n), {}, {**config, "p0": n}) for n in range(10_000)}
    tried = Tried(search, trials, lambda config: None)
    began = time.perf_counter()
    for _ in range(1000):
        assert config | {"p0": 7} in tried
    assert (time.perf_counter() - began) / 1000 < 0.001


def test_a_warm_start_of_nothing_but_repeats_does_not_stop_the_search(tmp_path: Path) -> None:
    first = {"batch_size": 32, "model": {"depth": 1}}
    searcher = make(tmp_path / "run", FOUR, warm_start=(first,) * 9)
    configs = train(searcher, status="failed")
    assert sorted(Counter(map(identity, configs)).values()) == [2, 2, 2, 2]
