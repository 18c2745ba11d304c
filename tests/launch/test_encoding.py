"""Encodings of conditional spaces: every shipped search, and small spaces with rows known by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest

from launch.samplers.encoding import Encoder, Rows
from search_spaces.grammar import Branch, Float, Int, Maybe, Pick, draw, encode
from search_spaces.search import Search
from search_spaces.shipped import SEARCHES
from visionsweep.core.tasks import tasks_of

SHIPPED = [
    pytest.param(search.for_task(task), id=f"{name}-{task}")
    for name, search in SEARCHES.items()
    for task in tasks_of(search.task)
]

CONDITIONAL = {
    "head": Branch({"linear": {}, "mlp": {"hidden": Int(8, 64), "dropout": Float(0, 1)}}),
    "rotate": Maybe({"degrees": Float(5, 30)}),
    "policy": Maybe(Branch({"auto": {"kind": Pick("a", "b")}, "rand": {"num": Int(1, 3)}})),
    "batch_size": Pick(16, 32, 64),
}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def same(rows: Rows, others: Rows) -> bool:
    return bool(np.allclose(rows, others, equal_nan=True))


def apart(encoder: Encoder, row: Rows, other: Rows) -> float:
    """The distance of two rows as a kernel measures it."""
    features, _ = encoder.features(np.array([row, other]))
    return float(np.linalg.norm(features[0] - features[1]))


def names_drawn(search: Search, params: dict[str, Any]) -> set[str]:
    """The parameters that `draw` asks for when it is given these."""
    trial = optuna.trial.FixedTrial(params)
    search.draw(trial)
    return set(trial.distributions)


@pytest.mark.parametrize("search", SHIPPED)
def test_a_sampled_row_is_a_configuration_and_comes_back_from_it(search: Search) -> None:
    encoder = Encoder(search.full_space)
    for row in encoder.sample(rng(), 50):
        params = encoder.decode(row)
        config = search.draw(optuna.trial.FixedTrial(params))  # raises for a missing parameter, warns outside a range
        assert search.encode(config) == pytest.approx(params)
        assert names_drawn(search, params) == set(params)


@pytest.mark.parametrize("search", SHIPPED)
def test_encoding_undoes_decoding_and_keeps_which_parameters_exist(search: Search) -> None:
    encoder = Encoder(search.full_space)
    for row in encoder.sample(rng(), 50):
        params = encoder.decode(row)
        again = encoder.encode(params)
        assert np.isfinite(again).tolist() == np.isfinite(row).tolist()
        assert encoder.decode(again) == pytest.approx(params)
        assert same(encoder.encode(encoder.decode(again)), again)


@pytest.mark.parametrize("search", SHIPPED)
def test_what_optuna_draws_by_chance_can_be_encoded(search: Search) -> None:
    encoder = Encoder(search.full_space)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        search.draw(trial)
        row = encoder.encode(trial.params)
        assert int(np.isfinite(row).sum()) == len(trial.params)
        assert encoder.decode(row) == pytest.approx(trial.params)


@pytest.mark.parametrize("search", SHIPPED)
def test_neighbours_are_configurations_too_and_differ(search: Search) -> None:
    encoder = Encoder(search.full_space)
    generator = rng()
    rows = encoder.sample(generator, 40)
    near = encoder.perturb(rows.copy(), generator, 0.15, 0.2)
    for row in near:
        params = encoder.decode(row)
        search.draw(optuna.trial.FixedTrial(params))
        assert names_drawn(search, params) == set(params)
    changed = [not same(row, other) for row, other in zip(rows, near, strict=True)]
    assert np.mean(changed) > 0.7  # a choice may be drawn again as it was, a parameter that does not exist may move


def test_a_perturbed_row_leaves_the_original_alone() -> None:
    encoder = Encoder(CONDITIONAL)
    generator = rng()
    rows = encoder.sample(generator, 20)
    before = rows.copy()
    encoder.perturb(rows, generator, 0.2, 0.5)
    assert same(rows, before)


def test_a_small_step_stays_near_and_a_rate_of_zero_still_moves_one_parameter() -> None:
    encoder = Encoder({name: Float(0, 1) for name in "abcdefgh"})
    rows = encoder.sample(rng(), 200)
    steps = encoder.perturb(rows, rng(), 0.01, 0.0) - rows
    assert ((np.abs(steps) > 0).sum(axis=1) == 1).all()
    assert np.abs(steps).max() < 0.06


def test_steps_beyond_an_end_stop_at_it() -> None:
    encoder = Encoder({"a": Float(0, 1)})
    rows = np.array([[0.001], [0.999]] * 500)
    moved = encoder.perturb(rows, rng(), 0.3, 1.0)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert 0.4 < np.mean((moved < 1e-6) | (moved > 1 - 1e-6)) < 0.6  # half of the steps lead out


@pytest.mark.parametrize("arm", ["linear", "mlp"])
def test_parameters_exist_with_their_arm_only(arm: str) -> None:
    encoder = Encoder(CONDITIONAL)
    rows = [row for row in encoder.sample(rng(), 60) if encoder.decode(row)["head"] == arm]
    assert rows
    for row in rows:
        assert ("head/mlp/hidden" in encoder.decode(row)) == (arm == "mlp")


def test_a_branch_in_a_maybe_has_a_name_of_its_own_and_exists_only_when_on() -> None:
    encoder = Encoder(CONDITIONAL)
    assert "policy/on/rand/num" in encoder.column
    kinds = set()
    for row in encoder.sample(rng(), 60):
        params = encoder.decode(row)
        assert ("policy/on" in params) == params["policy"]
        assert ("policy/on/auto/kind" in params) == (params.get("policy/on") == "auto")
        assert ("policy/on/rand/num" in params) == (params.get("policy/on") == "rand")
        kinds.add(params.get("policy/on"))
    assert kinds == {None, "auto", "rand"}


def test_the_columns_are_named_as_drawing_names_them() -> None:
    encoder = Encoder(CONDITIONAL)
    names = set()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(40):
        trial = study.ask()
        draw(CONDITIONAL, trial)
        names |= set(trial.params)
    assert set(encoder.column) == names


@pytest.mark.parametrize("count", [2, 3, 13])
def test_two_different_choices_stand_at_distance_one(count: int) -> None:
    encoder = Encoder({"a": Pick(*range(count)), "b": Float(0, 1)})
    rows = [encoder.encode({"a": choice, "b": 0.3}) for choice in range(count)]
    for number, row in enumerate(rows):
        for other in rows[:number]:
            assert apart(encoder, row, other) == pytest.approx(1)
        assert apart(encoder, row, row) == 0


def test_numbers_stand_at_their_distance_in_the_range() -> None:
    encoder = Encoder({"a": Float(0, 10), "b": Float(1e-4, 1, log=True)})
    low = encoder.encode({"a": 2.0, "b": 1e-3})
    high = encoder.encode({"a": 7.0, "b": 1e-3})
    assert apart(encoder, low, high) == pytest.approx(0.5)
    assert apart(encoder, low, encoder.encode({"a": 2.0, "b": 1e-2})) == pytest.approx(0.25)


def test_parameters_that_do_not_exist_add_nothing_between_rows_that_lack_them() -> None:
    encoder = Encoder(CONDITIONAL)
    off = {"head": "linear", "rotate": False, "policy": False}
    assert apart(encoder, encoder.encode({**off, "batch_size": 16}), encoder.encode({**off, "batch_size": 16})) == 0
    only = apart(encoder, encoder.encode({**off, "batch_size": 16}), encoder.encode({**off, "batch_size": 64}))
    assert only == pytest.approx(1)


def test_every_feature_column_belongs_to_a_parameter_and_none_is_missing() -> None:
    encoder = Encoder({**CONDITIONAL, "only": Pick("this")})
    features, owner = encoder.features(encoder.sample(rng(), 5))
    assert features.shape == (5, len(owner))
    assert np.isfinite(features).all()
    assert {encoder.parameters[column].name for column in owner} == set(encoder.column) - {"only"}


@pytest.mark.parametrize(
    ("space", "params"),
    [
        ({"a": Float(0, 1)}, {"a": 2.0}),
        ({"a": Float(0, 1)}, {"a": math.nan}),
        ({"a": Float(0, 1)}, {"a": "x"}),
        ({"a": Int(0, 1)}, {"a": True}),
        ({"a": Pick("x", "y")}, {"a": "z"}),
        ({"a": Pick("x", "y")}, {}),
    ],
)
def test_what_is_missing_or_outside_the_range_is_not_a_number(space: dict[str, Any], params: dict[str, Any]) -> None:
    assert np.isnan(Encoder(space).encode(params)).all()


def test_a_parameter_that_the_space_does_not_have_is_passed_over() -> None:
    assert Encoder({"a": Float(0, 1)}).encode({"a": 0.5, "b": 3}) == pytest.approx([0.5])


def test_a_space_without_a_choice_has_rows_of_length_zero() -> None:
    encoder = Encoder({"a": 3, "b": {"c": "x"}})
    assert len(encoder) == 0
    rows = encoder.sample(rng(), 4)
    assert rows.shape == (4, 0)
    assert encoder.decode(rows[0]) == {}
    assert encoder.features(rows)[0].shape == (4, 0)


def test_a_plain_value_beside_ranges_survives_the_way_there_and_back() -> None:
    space = {**CONDITIONAL, "epochs": 30, "model": {"weights": "none", "depth": Int(1, 9)}}
    encoder = Encoder(space)
    for row in encoder.sample(rng(), 20):
        config = draw(space, optuna.trial.FixedTrial(encoder.decode(row)))
        assert config["model"]["weights"] == "none"
        assert encode(space, config) == pytest.approx(encoder.decode(row))


def test_regimes_share_what_the_model_sees_of_a_parameter_that_several_have() -> None:
    space = {
        "regime": Branch(
            {
                "probe": {"backbone": Pick("a", "b"), "size": Int(1, 4), "l2": Float(0, 1)},
                "finetune": {"backbone": Pick("b", "c"), "size": Int(1, 8), "l2": Float(0, 1)},
            }
        )
    }
    encoder = Encoder(space)
    probe, tuned = (
        encoder.encode({"regime": name, f"regime/{name}/backbone": "b", f"regime/{name}/l2": 0.25})
        for name in ("probe", "finetune")
    )
    (one, other), owner = encoder.features(np.stack([probe, tuned]))
    names = [encoder.parameters[column].name for column in owner]
    differing = {name for name, mine, theirs in zip(names, one, other, strict=True) if mine != theirs}
    assert differing == {"regime"}  # "b" is the same backbone, and 0.25 of the same range the same strength
    assert names.count("regime/probe/backbone") == 3  # a, b, c
    assert {"regime/probe/size", "regime/finetune/size"} <= set(names)  # of two ranges: two parameters
