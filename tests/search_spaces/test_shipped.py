"""Contracts that every shipped search keeps, for every task it is for."""

from __future__ import annotations

from functools import cache
from typing import Any

import optuna
import pytest

from search_spaces import Branch, Maybe, Pick, Search
from search_spaces.classification_parts import BY_TASK
from search_spaces.grammar import walk
from search_spaces.paths import highest, merged, possible_values
from search_spaces.regimes import wholes, within
from search_spaces.shipped import SEARCHES
from trainables.config.augment import AugmentConfig
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from visionsweep.core.tasks import CLASSIFICATION, tasks_of

NUM_DRAWS = 200
IN_ALL_REGIMES = 1000  # of a large search, for one regime to be drawn often enough
CASES = [(name, task) for name, search in SEARCHES.items() for task in tasks_of(search.task)]


@cache
def draws(name: str, task: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return (configuration, the parameters that the sampler saw) for each draw."""
    search = SEARCHES[name].for_task(task)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(NUM_DRAWS)]
    return [(search.draw(trial), trial.params) for trial in trials]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_shipped_search_draws_valid_configurations(name: str, task: str) -> None:
    space = SEARCHES[name].for_task(task).full_space
    lengths = {whole.get("regime"): possible_values(whole, "epochs") for whole in wholes(space)}
    assert highest(space, "epochs") == SEARCHES[name].epochs
    for number, (config, _) in enumerate(draws(name, task)):
        parsed = parse_config(config, f"draw {number}")
        assert parsed.task == task
        assert parsed.epochs in lengths[parsed.regime]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_encode_is_the_inverse_of_draw_for_every_shipped_search(name: str, task: str) -> None:
    search = SEARCHES[name].for_task(task)
    for config, params in draws(name, task):
        assert search.encode(config) == params
        assert search.draw(optuna.trial.FixedTrial(params)) == config


@pytest.mark.parametrize(("name", "task"), CASES)
def test_many_draws_see_every_parameter_and_every_choice(name: str, task: str) -> None:
    search = SEARCHES[name].for_task(task)
    seen: dict[str, set[Any]] = {}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = draws(name, task)
    if name.startswith("classification-gpu"):
        trials = [study.ask() for _ in range(IN_ALL_REGIMES)]
        drawn = [(search.draw(trial), trial.params) for trial in trials]
    for _, params in drawn:
        for parameter, value in params.items():
            seen.setdefault(parameter, set()).add(value)
    for parameter, node, _ in walk(search.full_space):
        if isinstance(node, Pick):
            assert seen[parameter] == set(node.choices), parameter


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_warm_start_encodes_to_parameters_and_parses(name: str, task: str) -> None:
    search = SEARCHES[name].for_task(task)
    for config in search.warm_start:
        drawn = search.draw(_Filled(search.encode(config)))
        # The warm start's values are within the ranges, or defaults: none is lost on the way.
        assert parse_config(drawn) == parse_config(merged(drawn, config))


@pytest.mark.parametrize(("name", "task"), [case for case in CASES if case[0].startswith("classification")])
def test_the_space_of_the_first_trials_has_all_that_they_name(name: str, task: str) -> None:
    search = SEARCHES[name].for_task(task)
    for number, config in enumerate(search.warm_start):
        params = search.encode(config)
        trial = _Filled(params)
        drawn = search.draw(trial)
        assert merged(drawn, config) == drawn  # to the key: none that only the schema knows, none for another regime
        assert parse_config(drawn, f"warm start {number}").regime == config["regime"]
        assert search.encode(drawn) == params | trial.filled
        # They leave open only what each task has for itself.
        assert {within(parameter)[1].partition("/")[0] for parameter in trial.filled} <= set(BY_TASK[task])


@pytest.mark.parametrize("name", SEARCHES)
def test_a_shipped_search_says_what_it_is_for_and_prunes_no_sooner_than_it_should(name: str) -> None:
    search = SEARCHES[name]
    assert search.description.endswith(".")
    assert search.num_trials
    assert search.epochs >= search.reduction_factor * search.grace_epochs  # else there is one rung, and no pruning
    assert search.grace_epochs >= 4  # shorter graces rank learning rates, not models


@pytest.mark.parametrize("name", [name for name, search in SEARCHES.items() if search.task == "classification"])
def test_classification_searches_start_from_a_good_habit(name: str) -> None:
    assert SEARCHES[name].warm_start


def test_the_classification_searches_together_offer_what_the_reports_tried() -> None:
    searches = [search for search in SEARCHES.values() if search.task == "classification"]
    offered = _offered(searches)
    assert offered["model/backbone"] >= {
        "resnet18", "resnet34", "resnet101", "seresnext101_32x4d", "pnasnet5large", "inception_v3", "alexnet",
        "efficientnet_b0", "efficientnet_b2", "tf_efficientnet_b7",
        "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2",
    }  # fmt: skip
    assert offered["optimizer"] == {"sgd", "adam", "adamw"}
    assert offered["schedule"] == {"cosine", "multistep", "cosine_then_multistep", "piecewise"}
    assert offered["model/head"] == {"linear", "mish_mlp"}
    assert offered["model/freeze"] > {"none", "all"}
    assert offered["loss"] == {"cross_entropy", "bce", "focal"}
    assert offered["augment/policy/on"] == {"autoaugment", "randaugment"}
    assert offered["augment/mix/on"] == {"mixup", "cutmix"}


@pytest.mark.parametrize("name", [name for name, search in SEARCHES.items() if search.task == "classification"])
def test_a_classification_search_may_switch_on_every_augmentation_but_colour_jitter(name: str) -> None:
    """`tone` covers what colour jitter does, over wider ranges."""
    having = [whole["augment"] for whole in wholes(SEARCHES[name].space) if "augment" in whole]
    assert having
    for augment in having:
        assert set(augment) == set(AugmentConfig.model_fields) - {"color_jitter", "foreground_crop"}
        assert all(isinstance(node, Maybe) for node in augment.values())


@pytest.mark.parametrize("name", [name for name in SEARCHES if name.startswith("segmentation")])
def test_a_segmentation_search_may_switch_on_every_augmentation_that_moves_masks_along(name: str) -> None:
    """`rescale` and the foreground crop do what the two other crops do, and keep the aspect ratio."""
    augment = SEARCHES[name].space["augment"]
    covered = {"color_jitter", "crop_and_pad", "random_resized_crop"}
    assert set(augment) == set(AugmentConfig.model_fields) - covered - {"policy", "mix"}
    assert all(isinstance(node, Maybe) for node in augment.values())


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_part_of_a_schedule_changes_the_rates(name: str, task: str) -> None:
    """A parameter that changes nothing would be a dimension searched in vain."""
    from trainables.schedules import lr_factor

    def curve(config: TrialConfig, epochs: int) -> tuple[float, ...]:
        return tuple(lr_factor(config.schedule, epoch / 4, epochs) for epoch in range(4 * epochs))

    search = SEARCHES[name].for_task(task)
    having = [whole["schedule"] for whole in wholes(search.full_space) if "schedule" in whole]
    rates: dict[str, set[tuple[float, ...]]] = {}
    for config, _ in draws(name, task):
        if "schedule" not in config:  # a head that is solved has no rates
            continue
        parsed = parse_config(config)
        rates.setdefault(parsed.schedule.name, set()).add(curve(parsed, search.epochs))  # of one length: comparable
        assert len(set(curve(parsed, parsed.epochs))) > 1, config["schedule"]
    assert having
    for arm, space in (arm for schedule in having for arm in schedule.arms.items()):
        assert len(rates[arm]) > 5 or not space


def _offered(searches: list[Search]) -> dict[str, set[Any]]:
    offered: dict[str, set[Any]] = {}
    for search in searches:
        for task in CLASSIFICATION:
            for parameter, node, _ in walk(search.for_task(task).full_space):
                if isinstance(node, (Pick, Branch)):
                    values = node.choices if isinstance(node, Pick) else node.arms
                    offered.setdefault(within(parameter)[1], set()).update(values)
    return offered


class _Filled:
    """A trial with some given parameters. The others take their first or lowest value."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.filled: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, **_: Any) -> float:
        return self._given_or(name, low)

    def suggest_int(self, name: str, low: int, high: int, **_: Any) -> int:
        return self._given_or(name, low)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._given_or(name, choices[0])

    def _given_or(self, name: str, value: Any) -> Any:
        return self.params[name] if name in self.params else self.filled.setdefault(name, value)
