from __future__ import annotations

import json
from typing import Any

import optuna
import pytest

from search_spaces import Branch, Float, Int, Maybe, Pick, Search
from search_spaces.errors import ConfigError
from search_spaces.search import CLASSIFICATION_TASKS, DEFAULT_OBJECTIVE
from search_spaces.serial import from_json, search_from_json, search_to_json, to_json
from search_spaces.shipped import SEARCHES
from trainables.config_io import parse_config

SEARCH = Search(
    task="classification",
    space={
        "model": {"backbone": Pick("resnet18", "resnet34"), "freeze": Pick("none", "all")},
        "optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.3, log=True)}, "adam": {"lr": Float(1e-5, 1e-2, log=True)}}),
        "augment": {"rotate": Maybe({"degrees": Float(5, 30)})},
        "batch_size": Pick(16, 32),
        "image_size": Pick(96, 128),
    },
    space_by_task={"multilabel": {"threshold": Float(0.2, 0.6), "fit_image": Pick("crop", "squash")}},
    fixed={"model": {"weights": "none"}, "precision": "fp32"},
)


def drawn(search: Search, seed: int = 0) -> dict[str, Any]:
    return search.draw(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask())


@pytest.mark.parametrize("task", CLASSIFICATION_TASKS)
def test_a_classification_search_becomes_one_of_the_datas_task(task: str) -> None:
    search = SEARCH.for_task(task)
    assert search.task == task
    assert (search.metric, search.mode) == DEFAULT_OBJECTIVE[task]
    config = drawn(search)
    assert (config["task"], config["epochs"], config["model"]["weights"]) == (task, 30, "none")
    assert ("threshold" in config) == (task == "multilabel")


def test_a_search_for_its_own_task_stays_what_it_is() -> None:
    search = SEARCH.for_task("multilabel")
    assert search.for_task("multilabel") == search


def test_a_search_is_refused_for_data_of_another_task() -> None:
    with pytest.raises(ConfigError) as caught:
        SEARCHES["quickstart"].for_task("binary")
    assert str(caught.value) == (
        "the search is for multiclass data, and this data is binary. "
        "Choose another search (`visionsweep spaces` lists them) or other data."
    )
    with pytest.raises(ConfigError, match=r"^the search is for binary or multiclass or multilabel data, and this "):
        SEARCH.for_task("segmentation")


@pytest.mark.parametrize(
    ("metric", "mode", "settled"),
    [
        (None, None, ("val/f1", "max")),
        ("val/loss", None, ("val/loss", "min")),
        ("val/map", None, ("val/map", "max")),
        ("val/map", "min", ("val/map", "min")),
    ],
)
def test_a_loss_is_better_when_lower_and_a_score_when_higher(metric: Any, mode: Any, settled: Any) -> None:
    search = Search(task="multilabel", space={}, metric=metric, mode=mode).for_task("multilabel")
    assert (search.metric, search.mode) == settled


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "multilable"}, "unknown task 'multilable'. Did you mean 'multilabel'?"),
        ({"task": "multiclass", "metric": "val/acuracy"}, "unknown metric 'val/acuracy'. Did you mean 'val/accuracy'?"),
        ({"task": "multiclass", "metric": "accuracy"}, "unknown metric 'accuracy'. Did you mean 'val/accuracy'?"),
        (
            {"task": "multiclass", "mode": "maximum"},
            "mode must be 'max' or 'min', got 'maximum'. Losses take 'min', scores 'max'.",
        ),
        (
            {"task": "multiclass", "epochs": 0},
            "epochs must be a whole number of at least 1, got 0. Change it.",
        ),
        (
            {"task": "multiclass", "grace_epochs": 0},
            "grace_epochs must be a whole number of at least 1, got 0. Change it.",
        ),
        (
            {"task": "multiclass", "reduction_factor": 1},
            "reduction_factor must be a whole number of at least 2, got 1. Change it.",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Search(space={}, **values)
    assert str(caught.value) == message


def test_set_fixes_an_arm_and_keeps_its_ranges() -> None:
    search = SEARCH.with_set({"optimizer.name": "sgd"}).for_task("binary")
    rates = {(config := drawn(search, seed)["optimizer"])["name"]: config["lr"] for seed in range(5)}
    assert rates.keys() == {"sgd"}
    assert drawn(search, 1) != drawn(search, 2)


def test_set_fixes_a_plain_parameter_and_leaves_the_others_drawn() -> None:
    search = SEARCH.with_set({"image_size": 64, "model.backbone": "resnet18"}).for_task("binary")
    configs = [drawn(search, seed) for seed in range(20)]
    assert {config["image_size"] for config in configs} == {64}
    assert {config["model"]["backbone"] for config in configs} == {"resnet18"}
    assert {config["model"]["freeze"] for config in configs} == {"none", "all"}
    assert {config["model"]["weights"] for config in configs} == {"none"}


def test_set_reaches_the_fields_of_the_search_itself() -> None:
    search = SEARCH.with_set({"epochs": 3, "metric": "val/loss", "grace_epochs": 2, "reduction_factor": 4})
    assert (search.epochs, search.metric, search.grace_epochs, search.reduction_factor) == (3, "val/loss", 2, 4)
    assert drawn(search.for_task("binary"))["epochs"] == 3
    with pytest.raises(ConfigError, match=r"^epochs must be a whole number of at least 1, got 0\."):
        SEARCH.with_set({"epochs": 0})


def test_set_wins_over_what_the_search_fixes() -> None:
    search = SEARCH.with_set({"precision": "bf16", "model.weights": "imagenet"}).for_task("binary")
    config = drawn(search)
    assert (config["precision"], config["model"]["weights"]) == ("bf16", "imagenet")


@pytest.mark.parametrize("task", CLASSIFICATION_TASKS)
def test_set_of_what_only_one_task_searches_holds_for_every_task(task: str) -> None:
    search = SEARCH.with_set({"fit_image": "squash", "threshold": 0.3}).for_task(task)
    config = drawn(search)
    assert (config["fit_image"], config["threshold"]) == ("squash", 0.3)


def test_set_of_a_part_of_a_task_keeps_the_rest_of_that_task() -> None:
    search = SEARCH.with_set({"threshold": 0.3}).for_task("multilabel")
    assert {drawn(search, seed)["fit_image"] for seed in range(20)} == {"crop", "squash"}


def test_set_of_a_loss_that_only_some_tasks_take_is_refused_for_the_others_alone() -> None:
    search = SEARCHES["classification-cpu"].with_set({"loss.name": "bce"})
    assert drawn(search.for_task("multilabel"))["loss"]["name"] == "bce"
    with pytest.raises(ConfigError, match="task 'multiclass' takes the losses cross_entropy and focal, not 'bce'"):
        parse_config(drawn(search.for_task("multiclass")))
    with pytest.raises(ConfigError, match="'loss' has no arm 'hinge'"):
        SEARCHES["classification-cpu"].with_set({"loss.name": "hinge"})


@pytest.mark.parametrize("value", ["abc", 2.5, True])
def test_epochs_are_whole_numbers(value: object) -> None:
    with pytest.raises(ConfigError, match=r"epochs must be a whole number of at least 1, got"):
        SEARCH.with_set({"epochs": value})


def test_set_adds_what_the_search_does_not_name() -> None:
    assert drawn(SEARCH.with_set({"seed": 7}).for_task("binary"))["seed"] == 7


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("optimizer.name", "'optimizer' has no arm 'adem'. Did you mean 'adam'?"),
        ("optimizer.lrr", "no arm of 'optimizer' has a parameter 'lrr'. Did you mean 'lr'?"),
        ("precision.bits", "'precision' is the plain value 'fp32'; it has no 'bits'. Set 'precision' itself."),
        ("metric", "unknown metric 'adem'."),
    ],
)
def test_set_of_what_is_not_there_is_refused_in_words(key: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SEARCH.with_set({key: "adem"})
    assert str(caught.value).startswith(message)


def test_encode_of_a_search_says_only_what_it_would_draw() -> None:
    search = SEARCH.for_task("multilabel")
    config = drawn(search)
    assert search.draw(optuna.trial.FixedTrial(search.encode(config))) == config
    assert search.encode({"precision": "fp32", "epochs": 30, "batch_size": 16}) == {"batch_size": 16}


def test_a_space_as_json_says_what_each_range_is() -> None:
    node = {"a": Float(0, 1), "b": Int(1, 3), "c": Pick(1, None), "d": Maybe(Branch({"x": {}})), "e": (1, 2)}
    stored = json.loads(json.dumps(to_json(node)))
    assert stored == {
        "a": {"$float": {"low": 0, "high": 1, "log": False, "step": None}},
        "b": {"$int": {"low": 1, "high": 3, "log": False, "step": 1}},
        "c": {"$pick": [1, None]},
        "d": {"$maybe": {"$branch": {"x": {}}}},
        "e": [1, 2],
    }
    assert from_json(stored) == {**node, "e": [1, 2]}


@pytest.mark.parametrize("name", SEARCHES)
def test_every_shipped_search_comes_back_whole_from_json(name: str) -> None:
    search = SEARCHES[name]
    restored = search_from_json(json.loads(json.dumps(search_to_json(search))))
    assert search_to_json(restored) == search_to_json(search)
    for task in CLASSIFICATION_TASKS if search.task == "classification" else [search.task]:
        assert restored.for_task(task).full_space == search.for_task(task).full_space
        assert drawn(restored.for_task(task)) == drawn(search.for_task(task))
    assert list(restored.warm_start) == list(search.warm_start)
