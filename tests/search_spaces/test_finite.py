"""How many configurations a space has, and each of them."""

from __future__ import annotations

import time
from typing import Any

import optuna
import pytest

from search_spaces.finite import configuration, configurations, drawn_as, identity, limited, num_configurations
from search_spaces.grammar import Branch, Float, Int, Maybe, Pick, Space, encode
from search_spaces.search import Search
from search_spaces.shipped import SEARCHES

CONDITIONAL: Space = {
    "model": {"depth": Int(1, 3), "head": Branch({"linear": {}, "mlp": {"hidden": Pick(64, 128), "on": Maybe({})}})},
    "rotate": Maybe({"degrees": Float(10, 30, step=10)}),
    "crop": Maybe(Branch({"a": {}, "b": {"size": Int(2, 8, step=3)}})),
    "batch_size": 16,
}


@pytest.mark.parametrize(
    ("space", "number"),
    [
        ({}, 1),
        ({"batch_size": 16, "merge": {"a": ["b", "c"]}}, 1),
        ({"a": Pick(1, 2, 3)}, 3),
        ({"a": Pick(16, 16, 16.0, 32)}, 2),
        ({"a": Pick(None, False, 0, "0")}, 4),
        ({"a": Int(2, 2)}, 1),
        ({"a": Int(1, 8)}, 8),
        ({"a": Int(1, 8, log=True)}, 8),
        ({"a": Int(1, 8, step=3)}, 3),  # 1, 4, 7
        ({"a": Float(0.1, 0.1)}, 1),
        ({"a": Float(0.0, 0.3, step=0.1)}, 4),  # 0.3 / 0.1 is 2.9999999999999996
        ({"a": Float(0.0, 1.0, step=0.3)}, 4),  # 0, 0.3, 0.6, 0.9
        ({"a": Float(0, 1)}, None),
        ({"a": Float(1e-5, 1e-2, log=True), "b": Pick(1, 2)}, None),
        ({"a": Maybe({})}, 2),
        ({"a": Maybe({"b": Float(0, 1)})}, None),
        ({"a": Branch({"x": {"b": Pick(1, 2)}, "y": {}, "z": {"c": Maybe({"d": Int(1, 3)})}})}, 2 + 1 + 4),
        ({"a": Branch({"x": {"b": Float(0, 1)}, "y": {}})}, None),
        (CONDITIONAL, 3 * (1 + 2 * 2) * (1 + 3) * (1 + 1 + 3)),
    ],
)
def test_configurations_are_counted_through_conditions(space: Space, number: int | None) -> None:
    assert num_configurations(space) == number
    if number is not None:
        assert len({identity(config) for config in configurations(space)}) == number


def test_every_configuration_is_one_that_optuna_can_draw() -> None:
    search = Search(task="multiclass", space={"x": CONDITIONAL, "y": Float(0.0, 0.7, step=0.1)})
    for number in range(num_configurations(search.space) or 0):
        params = configuration(search.space, number)
        config = drawn_as(search.space, params)
        assert encode(search.space, config) == params
        if number % 17 == 0:  # warns, and draws another value, for one outside of its range
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
            study.enqueue_trial(params)
            assert identity(search.draw(study.ask())) == identity({**config, "task": "multiclass", "epochs": 30})


def test_a_space_of_a_million_configurations_is_not_listed() -> None:
    space = {f"p{number}": Int(1, 10) for number in range(30)}
    began = time.perf_counter()
    assert num_configurations(space) == 10**30
    assert configuration(space, 10**30 - 1) == dict.fromkeys(space, 10)
    assert time.perf_counter() - began < 0.1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 16}, {"a": 16.0}, True),
        ({"a": 0.1 + 0.2}, {"a": 0.3}, True),
        ({"a": (1, 2)}, {"a": [1, 2]}, True),  # as it is read from JSON
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": None}, {"a": {}}, False),
        ({"a": None}, {}, False),
        ({"seed": 2**60}, {"seed": 2**60 + 1}, False),
        ({"lr": 1e-5}, {"lr": 1.0001e-5}, False),
    ],
)
def test_two_configurations_are_the_same_by_what_they_say(one: Any, other: Any, same: bool) -> None:
    assert (identity(one) == identity(other)) is same


def test_a_run_has_no_more_trials_than_configurations() -> None:
    four = Search(task="multiclass", space={"batch_size": Pick(16, 32), "image_size": Pick(32, 64)})
    assert [limited(four, number) for number in (None, 3, 50)] == [4, 3, 4]
    copies = Search(task="multiclass", space=four.space, pruner="pbt")
    assert [limited(copies, number) for number in (None, 50)] == [None, 50]
    endless = Search(task="multiclass", space={"lr": Float(0, 1)})
    assert [limited(endless, number) for number in (None, 50)] == [None, 50]


@pytest.mark.parametrize("name", SEARCHES)
def test_no_shipped_search_comes_to_an_end_by_itself(name: str) -> None:
    assert limited(SEARCHES[name], None) is None
