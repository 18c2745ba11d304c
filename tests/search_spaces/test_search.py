from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces import Branch, Float, Int, Maybe, Pick, Search
from search_spaces.serial import from_json, search_from_json, search_to_json, to_json
from search_spaces.shipped import SEARCHES
from trainables.config.io import parse_config
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import METRICS, METRICS_OF_TASK, mode_of
from visionsweep.core.objectives import DEFAULT_OBJECTIVE
from visionsweep.core.tasks import CLASSIFICATION, tasks_of

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


@pytest.mark.parametrize("task", CLASSIFICATION)
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


DICT = "Write a dict: {...}."


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"space": None}, f"space must be a mapping of names to values, got None. {DICT}"),
        ({"space": [1]}, f"space must be a mapping of names to values, got [1]. {DICT}"),
        ({"fixed": None}, f"fixed must be a mapping of names to values, got None. {DICT}"),
        ({"space_by_task": 3}, f"space_by_task must be a mapping of names to values, got 3. {DICT}"),
        (
            {"space_by_task": {"binary": 3}},
            f"space_by_task['binary'] must be a mapping of names to values, got 3. {DICT}",
        ),
        ({"space_by_task": {"binari": {}}}, "unknown task of space_by_task 'binari'. Did you mean 'binary'?"),
        ({"warm_start": "abc"}, "warm_start must be a list of configurations, got 'abc'. Write [{...}]."),
        ({"warm_start": {"a": 1}}, "warm_start must be a list of configurations, got {'a': 1}. Write [{...}]."),
        ({"warm_start": [{}, 3]}, f"warm_start[1] must be a mapping of names to values, got 3. {DICT}"),
        ({"num_trials": "5"}, "num_trials must be a whole number of at least 1, got '5'. Change it."),
        ({"num_trials": 0}, "num_trials must be a whole number of at least 1, got 0. Change it."),
        ({"epochs": None}, "epochs must be a whole number of at least 1, got None. Change it."),
        ({"data": 3}, "data must be a path or a name, got 3. Put it in quotes."),
        ({"task": ["binary"]}, "unknown task '['binary']'. Did you mean 'binary'?"),
        (
            {"mode": "min"},
            "mode 'min' says which way a metric is better, and no metric is named. "
            "Set metric too, such as val/loss, or leave mode out.",
        ),
        ({"space": {1: 2}}, "space: a parameter is named by a string, got 1. Put it in quotes."),
        (
            {"space": {"a": Branch({"x": {"b": Maybe({True: 1})}})}},
            "space.a.x.b: a parameter is named by a string, got True. Put it in quotes.",
        ),
        ({"fixed": {"a": {None: 1}}}, "fixed.a: a parameter is named by a string, got None. Put it in quotes."),
    ],
)
def test_a_search_made_of_the_wrong_things_is_refused_in_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Search(**{"task": "multiclass", "space": {}, **values})
    assert str(caught.value) == message


def test_a_metric_that_is_no_name_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"^unknown metric '\['val/f1'\]'\. Did you mean 'val/f1'\?$"):
        Search(task="multiclass", space={}, metric=["val/f1"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^unknown metric '\[1\]'\."):
        SEARCH.with_set({"metric": [1]})


def test_data_may_be_a_path() -> None:
    assert Search(task="multiclass", space={}, data=Path("photos")).data == "photos"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "metric", "hint"),
    [("binary", "val/f1_macro", "Did you mean 'val/f1'?"), ("multilabel", "val/top5", "Did you mean")],
)
def test_a_metric_of_another_task_is_refused_with_the_nearest_one(task: str, metric: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SEARCH.with_set({"metric": metric}).for_task(task)
    assert str(caught.value).startswith(f"metric '{metric}' is not one of task '{task}'. {hint}")


@pytest.mark.parametrize("task", CLASSIFICATION)
def test_every_metric_of_a_task_may_be_compared_by(task: str) -> None:
    assert DEFAULT_OBJECTIVE[task][0] in METRICS_OF_TASK[task]
    for metric in METRICS_OF_TASK[task]:
        search = SEARCH.with_set({"metric": metric}).for_task(task)
        assert (search.metric, search.mode) == (metric, mode_of(metric))


def test_losses_are_better_from_below_and_scores_from_above() -> None:
    assert {metric for metric in METRICS if mode_of(metric) == "min"} == {"val/loss"}
    assert mode_of("train/loss") == "min"


def test_set_of_a_mode_needs_a_metric_in_whatever_order() -> None:
    with pytest.raises(ConfigError, match=r"^mode 'min' says which way a metric is better, and no metric is named\."):
        SEARCH.with_set({"mode": "min"})
    search = SEARCH.with_set({"mode": "min", "metric": "val/f1"}).for_task("binary")
    assert (search.metric, search.mode) == ("val/f1", "min")


def test_set_of_the_task_makes_the_search_one_of_that_task() -> None:
    search = SEARCH.with_set({"task": "multiclass"})
    assert search.task == "multiclass"
    assert "task" not in search.space
    assert drawn(search.for_task("multiclass"))["task"] == "multiclass"
    with pytest.raises(ConfigError, match=r"^the search is for multiclass data, and this data is binary\."):
        search.for_task("binary")
    with pytest.raises(ConfigError, match="unknown task 'multiclas'"):
        SEARCH.with_set({"task": "multiclas"})


def test_set_of_a_name_that_is_no_name_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"^'optimizer' has no arm '\[1\]'\."):
        SEARCH.with_set({"optimizer.name": [1]})
    with pytest.raises(ConfigError, match=r"^space\.model: a parameter is named by a string, got True\."):
        SEARCH.with_set({"model": {True: 1}})


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


@pytest.mark.parametrize("task", CLASSIFICATION)
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
    for task in tasks_of(search.task):
        assert restored.for_task(task).full_space == search.for_task(task).full_space
        assert drawn(restored.for_task(task)) == drawn(search.for_task(task))
    assert list(restored.warm_start) == list(search.warm_start)
