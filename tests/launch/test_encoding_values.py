"""The values of single parameters as places in the unit interval: grids, logarithms, choices of several types."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest

from launch.samplers.encoding import Encoder
from search_spaces.grammar import Float, Int, Pick


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("choices", [(True, 1, 1.0, None), (1.0, 1, True, "1"), (None, False, 0, 0.0)])
def test_choices_that_are_equal_in_python_are_told_apart_by_their_type(choices: tuple[Any, ...]) -> None:
    encoder = Encoder({"a": Pick(*choices)})
    for choice in choices:
        again = encoder.decode(encoder.encode({"a": choice}))["a"]
        assert again == choice
        assert type(again) is type(choice)
    drawn = Counter((type(encoder.decode(row)["a"]), encoder.decode(row)["a"]) for row in encoder.sample(rng(), 400))
    assert len(drawn) == len(choices)
    assert min(drawn.values()) > 0.15 * 400


@pytest.mark.parametrize(
    ("range_", "values"),
    [
        (Int(1, 5), [1, 2, 3, 4, 5]),
        (Int(0, 10, step=5), [0, 5, 10]),
        (Int(0, 11, step=5), [0, 5, 10]),
        (Int(7, 7), [7]),
        (Float(0.0, 1.0, step=0.25), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (Float(0.1, 0.9, step=0.3), [0.1, 0.4, 0.7]),
        (Float(0.5, 0.5), [0.5]),
    ],
)
def test_values_on_a_grid_are_those_of_the_grid_and_come_back(range_: Int | Float, values: list[float]) -> None:
    encoder = Encoder({"a": range_})
    drawn = {encoder.decode(row)["a"] for row in encoder.sample(rng(), 500)}
    assert sorted(drawn) == pytest.approx(values)
    for value in values:
        again = encoder.decode(encoder.encode({"a": value}))["a"]
        assert again == pytest.approx(value)
        assert type(again) is type(value)


@pytest.mark.parametrize(
    "range_", [Int(1, 4), Int(0, 1), Int(10, 30, step=10), Int(0, 34, step=10), Float(0, 1, step=0.25)]
)
def test_the_ends_of_a_grid_are_as_likely_as_the_others(range_: Int | Float) -> None:
    encoder = Encoder({"a": range_})
    counts = Counter(encoder.decode(row)["a"] for row in encoder.sample(rng(), 6000))
    expected = 6000 / len(counts)
    assert min(counts.values()) > 0.85 * expected
    assert max(counts.values()) < 1.15 * expected


def test_logarithmic_whole_numbers_are_drawn_as_optuna_draws_them() -> None:
    encoder = Encoder({"a": Int(1, 64, log=True)})
    values = np.array([encoder.decode(row)["a"] for row in encoder.sample(rng(), 3000)])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    theirs = np.array([study.ask().suggest_int("a", 1, 64, log=True) for _ in range(3000)])
    for below in (1, 2, 4, 8, 16, 32):
        assert np.mean(values <= below) == pytest.approx(np.mean(theirs <= below), abs=0.04)
    assert (values.min(), values.max()) == (1, 64)
