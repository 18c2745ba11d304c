"""Population based training: which trials are replaced by which, and that copies are trials of their own."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler
from support import TINY_SPACE, Outcome, tiny_search

from launch.pruners.pbt import FACTORS, PbtScheduler, mutated
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from launch.trial_notes import Surroundings
from search_spaces import Branch, Float, Int, Pick, Search
from visionsweep.run_dir.trials import Trial

pytestmark = pytest.mark.with_ray

CLI = Callable[..., Outcome]
SEARCH = Search(
    task="multiclass",
    space={
        "model": {"backbone": Pick("test_resnet", "test_efficientnet"), "weights": "none"},
        "optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.3, log=True)}, "adam": {"lr": Float(1e-4, 1e-2, log=True)}}),
        "batch_size": Int(8, 32),
    },
    epochs=8,
    grace_epochs=2,
    pruner="pbt",
).for_task("multiclass")


@dataclass(eq=False)
class Alive:
    config: dict[str, Any]
    status: str = "RUNNING"


class Controller:
    def __init__(self) -> None:
        self.trials: list[Alive] = []

    def get_trials(self) -> list[Alive]:
        return self.trials


def alive(population: PbtScheduler, controller: Controller, names: str) -> list[Alive]:
    for name in names:
        controller.trials.append(Alive({"trial_id": name, "config": {}}))
        population.on_trial_add(controller, controller.trials[-1])
    return controller.trials


def told(population: PbtScheduler, controller: Controller, trial: Alive, epoch: int, value: float) -> Any:
    return population.on_trial_result(controller, trial, {"epoch": epoch, "val/accuracy": value})


def test_the_lowest_quarter_ends_and_one_of_the_highest_is_copied() -> None:
    population = PbtScheduler(SEARCH, Surroundings())
    controller = Controller()
    trials = alive(population, controller, "abcd")
    for trial, value in zip(trials, (0.9, 0.5, 0.6, 0.2), strict=True):
        assert told(population, controller, trial, 1, value) == TrialScheduler.CONTINUE  # between two comparisons
    decisions = [told(population, controller, t, 2, v) for t, v in zip(trials, (0.9, 0.5, 0.6, 0.2), strict=True)]
    assert decisions == [TrialScheduler.CONTINUE] * 3 + [TrialScheduler.STOP]
    assert list(population.notes.to_copy) == ["a"]


def test_three_are_no_population_yet_and_who_has_ended_does_not_count() -> None:
    population = PbtScheduler(SEARCH, Surroundings())
    controller = Controller()
    trials = alive(population, controller, "abcd")
    for trial, value in zip(trials[:3], (0.9, 0.5, 0.6), strict=True):
        told(population, controller, trial, 2, value)
    population.on_trial_complete(controller, trials[0], {})
    assert told(population, controller, trials[3], 2, 0.1) == TrialScheduler.CONTINUE
    assert not population.notes.to_copy


def test_trials_take_turns_where_not_all_run_at_once() -> None:
    population = PbtScheduler(SEARCH, Surroundings())
    controller = Controller()
    first, second, third = alive(population, controller, "abc")
    third.status = "PENDING"
    assert told(population, controller, first, 2, 0.9) == TrialScheduler.PAUSE
    first.status = "PAUSED"
    assert population.choose_trial_to_run(controller) is third
    third.status = "RUNNING"
    told(population, controller, second, 1, 0.9)
    second.status = "PAUSED"
    assert population.choose_trial_to_run(controller) is second  # it has trained less
    population.running = 1
    assert population.choose_trial_to_run(controller) is None


def test_a_population_that_is_gone_on_with_knows_the_scores_of_those_alive() -> None:
    def recorded(name: str, value: float, status: str) -> Trial:
        rows = [{"epoch": epoch, "metrics": {"val/accuracy": value}, "seconds": 1.0} for epoch in (1, 2)]
        return Trial(name, {}, {}, rows, status)

    statuses = {"a": "interrupted", "b": "running", "c": "interrupted", "x": "complete", "y": "pruned"}
    past = [recorded(name, 0.5, status) for name, status in statuses.items()]
    population = PbtScheduler(SEARCH, Surroundings(past))
    controller = Controller()
    trials = alive(population, controller, "abcd")
    assert told(population, controller, trials[3], 2, 0.1) == TrialScheduler.STOP


def test_a_copy_differs_in_real_numbers_within_their_ranges_and_in_nothing_else() -> None:
    params = {"model/backbone": "test_resnet", "optimizer": "sgd", "optimizer/sgd/lr": 0.29, "batch_size": 16}
    seen = {mutated(SEARCH, params, random.Random(seed))["optimizer/sgd/lr"] for seed in range(20)}
    assert seen == {0.29 * FACTORS[0], 0.3}
    other = mutated(SEARCH, params, random.Random(0))
    assert {name: value for name, value in other.items() if name != "optimizer/sgd/lr"} == {
        name: value for name, value in params.items() if name != "optimizer/sgd/lr"
    }


def test_an_heir_whose_donor_has_ended_is_an_ordinary_proposal(tmp_path: Path) -> None:
    records = Records.create(tmp_path / "run", {"search": {}})
    searcher = StudySearcher(SEARCH, records, seed=0, num_trials=None, deadline=None)
    searcher.suggest("ray-0")
    searcher.notes.to_copy.append("0000")  # which has no state
    proposal = searcher.suggest("ray-1")
    assert isinstance(proposal, dict)
    assert "epochs_recorded" not in proposal
    assert '"origin": "sampler"' in (tmp_path / "run" / "trials.jsonl").read_text().splitlines()[-1]


@pytest.mark.usefixtures("ray_session")
def test_a_search_by_population_copies_the_state_and_every_trial_is_accounted_for(
    visionsweep: CLI, photos: Path, tmp_path: Path
) -> None:
    own = tmp_path / "tiny.py"
    rates = {"lr": Float(1e-4, 0.1, log=True), "backbone_lr_scale": Float(0.8, 1.0), "weight_decay": Float(0.0, 0.001)}
    space = {
        **TINY_SPACE,
        "model": {"backbone": Pick("test_resnet", "test_efficientnet")},
        "optimizer": {"name": "sgd", **rates},
    }
    own.write_text(tiny_search(space=space, epochs=4, grace_epochs=1, pruner="pbt"))
    ran = visionsweep("run", own, "--data", photos, "--trials", 9, "--name", "p")
    assert ran.code == 0, ran.err
    assert "in the lowest quarter alive" in ran.out
    events = [json.loads(line) for line in (tmp_path / "runs/p/trials.jsonl").read_text().splitlines()]
    proposed = {event["trial_id"]: event for event in events if event["event"] == "proposed"}
    ended = {event["trial_id"]: event["status"] for event in events if event["event"] == "ended"}
    assert set(ended) == set(proposed)
    assert set(ended.values()) == {"complete", "pruned"}
    epochs: dict[str, list[int]] = {name: [] for name in proposed}
    for line in (tmp_path / "runs/p/epochs.jsonl").read_text().splitlines():
        row = json.loads(line)
        epochs[row["trial_id"]].append(row["epoch"])
    copies = {
        name: event["origin"].removeprefix("copy of ") for name, event in proposed.items() if "copy" in event["origin"]
    }
    assert copies
    for name, donor in copies.items():
        assert proposed[name]["config"]["model"] == proposed[donor]["config"]["model"]
        assert proposed[name]["config"]["optimizer"] != proposed[donor]["config"]["optimizer"]
        assert epochs[name][0] > 1
        assert epochs[name][0] - 1 in epochs[donor] or epochs[name][0] - 1 < epochs[donor][0]
    for name, found in epochs.items():
        assert found == list(range(found[0], found[-1] + 1)), f"trial {name} has every epoch once"
