from __future__ import annotations

import math
from typing import Any

import optuna
import pytest

from search_spaces import Branch, Float, Int, Maybe, Pick
from search_spaces.grammar import draw, encode, walk
from search_spaces.paths import highest, merged, possible_values, set_path
from visionsweep.core.errors import ConfigError

SPACE: dict[str, Any] = {
    "optimizer": Branch(
        {
            "sgd": {"lr": Float(1e-3, 0.3, log=True), "momentum": Float(0.8, 0.95, step=0.05)},
            "adam": {"lr": Float(1e-5, 1e-2, log=True)},
        }
    ),
    "augment": {
        "rotate": Maybe({"degrees": Float(5, 30)}),
        "mix": Maybe(Branch({"mixup": {"alpha": Float(0.1, 0.8)}, "cutmix": {}})),
        "flip": Maybe({"p": 0.5}),
    },
    "layers": Int(1, 64, log=True),
    "width": Int(2, 10, step=4),
    "batch_size": Pick(16, 32),
    "image_size": 224,
    "milestones": [1, 2],
}


def choosing(**choices: Any) -> optuna.trial.FixedTrial:
    return optuna.trial.FixedTrial({name.replace("__", "/"): value for name, value in choices.items()})


def random_trials(num_trials: int, seed: int = 0) -> list[optuna.Trial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [study.ask() for _ in range(num_trials)]


def test_every_range_draws_inside_itself_and_on_its_grid() -> None:
    space = {"a": Float(-1, 2), "b": Float(0, 1, step=0.25), "c": Int(2, 10, step=4), "d": Pick(None, True, "x", 1.5)}
    drawn = [draw(space, trial) for trial in random_trials(100)]
    assert all(-1 <= config["a"] <= 2 for config in drawn)
    assert {config["b"] for config in drawn} == {0, 0.25, 0.5, 0.75, 1}
    assert {config["c"] for config in drawn} == {2, 6, 10}
    assert {config["d"] for config in drawn} == {None, True, "x", 1.5}


def test_a_logarithmic_range_draws_every_decade_alike() -> None:
    drawn = [draw({"x": Float(1e-4, 1, log=True), "n": Int(1, 10_000, log=True)}, t) for t in random_trials(400)]
    for below_the_middle in ([c["x"] < 1e-2 for c in drawn], [c["n"] < 100 for c in drawn]):
        assert 0.4 < sum(below_the_middle) / len(drawn) < 0.6


def test_what_is_no_range_is_taken_as_it_stands() -> None:
    plain = {"a": 1, "b": "x", "c": [1, 2], "d": None, "e": {"f": True}}
    trial = random_trials(1)[0]
    assert draw(plain, trial) == plain
    assert trial.params == {}


def test_a_branch_is_drawn_with_its_name_and_the_parameters_of_that_arm_only() -> None:
    for trial in random_trials(30):
        optimizer = draw(SPACE, trial)["optimizer"]
        assert set(optimizer) == {"sgd": {"name", "lr", "momentum"}, "adam": {"name", "lr"}}[optimizer["name"]]


def test_a_conditional_parameter_carries_its_arm_in_its_name() -> None:
    trial = choosing(
        optimizer="sgd", optimizer__sgd__lr=0.1, optimizer__sgd__momentum=0.9, augment__rotate=True,
        augment__rotate__degrees=7.0, augment__mix=True, augment__mix__on="mixup", augment__mix__on__mixup__alpha=0.2,
        augment__flip=False, layers=3, width=6, batch_size=32,
    )  # fmt: skip
    assert draw(SPACE, trial) == {
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        "augment": {"rotate": {"degrees": 7.0}, "mix": {"name": "mixup", "alpha": 0.2}, "flip": None},
        "layers": 3,
        "width": 6,
        "batch_size": 32,
        "image_size": 224,
        "milestones": [1, 2],
    }


def test_what_a_maybe_holds_exists_only_when_it_is_on() -> None:
    space = {"rotate": Maybe({"degrees": Float(5, 30)}), "flip": Maybe({"p": 0.5})}
    off = choosing(rotate=False, flip=False)
    on = choosing(rotate=True, rotate__degrees=9.0, flip=True)
    assert draw(space, off) == {"rotate": None, "flip": None}
    assert draw(space, on) == {"rotate": {"degrees": 9.0}, "flip": {"p": 0.5}}


def test_two_arms_with_a_parameter_of_one_name_are_two_parameters_to_the_sampler() -> None:
    names = {name for trial in random_trials(30) for name in (draw(SPACE, trial), trial.params)[1]}
    assert {"optimizer/sgd/lr", "optimizer/adam/lr"} <= names


def test_encode_is_the_inverse_of_draw() -> None:
    for trial in random_trials(200):
        config = draw(SPACE, trial)
        assert encode(SPACE, config) == trial.params
        assert draw(SPACE, optuna.trial.FixedTrial(encode(SPACE, config))) == config


@pytest.mark.parametrize(
    ("config", "flat"),
    [
        ({}, {}),
        ({"elsewhere": 3, "batch_size": 16}, {"batch_size": 16}),
        ({"batch_size": 17}, {}),
        ({"layers": 65}, {}),
        ({"layers": True}, {}),
        ({"layers": 2.5}, {}),
        ({"optimizer": {"name": "adam", "lr": 0.1}}, {"optimizer": "adam"}),
        ({"optimizer": {"name": "adam", "lr": "fast"}}, {"optimizer": "adam"}),
        ({"optimizer": {"name": "lion", "lr": 1e-3}}, {}),
        ({"optimizer": "sgd"}, {}),
        ({"optimizer": {"name": ["sgd"]}}, {}),
        ({"augment": None}, {}),
        ({"augment": {"mix": {"name": "blend"}}}, {"augment/mix": True}),
        ({"image_size": 96}, {}),
    ],
)
def test_encode_leaves_out_what_the_space_cannot_say(config: dict[str, Any], flat: dict[str, Any]) -> None:
    assert encode(SPACE, config) == flat


def test_a_whole_number_encodes_as_a_real_one_where_the_range_is_real() -> None:
    flat = encode({"degrees": Float(5, 30)}, {"degrees": 10})
    assert flat == {"degrees": 10.0}
    assert isinstance(flat["degrees"], float)


def test_walk_names_everything_that_draw_asks_for_and_when() -> None:
    walked = list(walk(SPACE))
    ranges = {name for name, node, _ in walked if isinstance(node, (Float, Int, Pick))}
    asked = {name for trial in random_trials(100) for name in (draw(SPACE, trial), trial.params)[1]}
    assert ranges == asked
    conditions = {name: when for name, _, when in walked}
    assert conditions["optimizer/sgd/lr"] == "optimizer = sgd"
    assert conditions["augment/rotate/degrees"] == "augment/rotate"
    assert conditions["batch_size"] == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Float(1, 0),
            "Float(low=1, high=0, log=False, step=None): low must not be above high, and both must be finite. "
            "Swap or mend them.",
        ),
        (
            lambda: Float(0, math.inf),
            "Float(low=0, high=inf, log=False, step=None): low must not be above high, and both must be finite. "
            "Swap or mend them.",
        ),
        (
            lambda: Float(math.nan, 1),
            "Float(low=nan, high=1, log=False, step=None): low must not be above high, and both must be finite. "
            "Swap or mend them.",
        ),
        (
            lambda: Float(0, 1, log=True),
            "Float(low=0, high=1, log=True, step=None): log=True needs low > 0. Raise low or drop log.",
        ),
        (
            lambda: Float(0.1, 1, log=True, step=0.1),
            "Float(low=0.1, high=1, log=True, step=0.1): a step must be positive and cannot be combined with "
            "log=True. Drop one.",
        ),
        (
            lambda: Float(0, 1, step=0),
            "Float(low=0, high=1, log=False, step=0): a step must be positive and cannot be combined with "
            "log=True. Drop one.",
        ),
        (
            lambda: Int(3, 2),
            "Int(low=3, high=2, log=False, step=1): low must not be above high, and both must be finite. "
            "Swap or mend them.",
        ),
        (
            lambda: Int(0, 2, log=True),
            "Int(low=0, high=2, log=True, step=1): log=True needs low > 0. Raise low or drop log.",
        ),
        (
            lambda: Int(1, 9, log=True, step=2),
            "Int(low=1, high=9, log=True, step=2): a step must be at least 1 and cannot be combined with "
            "log=True. Drop one.",
        ),
        (
            lambda: Int(1, 9, step=0),
            "Int(low=1, high=9, log=False, step=0): a step must be at least 1 and cannot be combined with "
            "log=True. Drop one.",
        ),
        (lambda: Pick(), "Pick() has nothing to pick from. Give it at least one value."),
        (
            lambda: Pick(1, [2]),
            "Pick takes numbers, strings, booleans and None, not [2]. Use Branch for structured arms.",
        ),
        (lambda: Branch({}), "Branch({}) has no arms. Give it at least one."),
        (
            lambda: Branch(["sgd", "adam"]),  # type: ignore[arg-type]
            "Branch takes a mapping of arms to their parameters, got ['sgd', 'adam']. Use Pick for plain values.",
        ),
        (
            lambda: Branch({"sgd": None}),  # type: ignore[dict-item]
            "arm 'sgd' of a Branch must be a mapping of parameters, got None. "
            "Name the parameter, or write {} for an arm without any.",
        ),
        (
            lambda: Branch({"sgd": Pick(1)}),  # type: ignore[dict-item]
            "arm 'sgd' of a Branch must be a mapping of parameters, got Pick(1). "
            "Name the parameter, or write {} for an arm without any.",
        ),
        (
            lambda: Branch({1: {}}),  # type: ignore[dict-item]
            "an arm of a Branch is named by a string, got 1. Put it in quotes.",
        ),
        (
            lambda: Maybe(5),  # type: ignore[arg-type]
            "Maybe takes a mapping of parameters or a Branch, got 5. Use Pick(None, ...) for a value.",
        ),
        (
            lambda: Int(8.5, 16),  # type: ignore[arg-type]
            "Int(low=8.5, high=16, log=False, step=1): low, high and step must be whole numbers. "
            "Change them, or use Float.",
        ),
        (
            lambda: Int(1, 9, step=None),  # type: ignore[arg-type]
            "Int(low=1, high=9, log=False, step=None): low, high and step must be whole numbers. "
            "Change them, or use Float.",
        ),
        (
            lambda: Float("0", 1),  # type: ignore[arg-type]
            "Float(low='0', high=1, log=False, step=None): low, high and step must be numbers. Change them.",
        ),
        (
            lambda: Float(0, True),
            "Float(low=0, high=True, log=False, step=None): low, high and step must be numbers. Change them.",
        ),
        (
            lambda: Float(0, 1, step=math.nan),
            "Float(low=0, high=1, log=False, step=nan): a step must be positive and cannot be combined with "
            "log=True. Drop one.",
        ),
    ],
)
def test_a_range_that_cannot_be_is_refused_in_words(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message


def test_a_range_of_one_value_is_allowed() -> None:
    assert draw({"x": Float(2, 2), "n": Int(3, 3), "p": Pick("a")}, random_trials(1)[0]) == {"x": 2, "n": 3, "p": "a"}


def test_picks_compare_by_their_choices_and_show_them() -> None:
    assert Pick(1, "a") == Pick(1, "a")
    assert Pick(1) != Pick(2)
    assert hash(Pick(1, "a")) == hash(Pick(1, "a"))
    assert repr(Pick(1, "a", None)) == "Pick(1, 'a', None)"


def test_merged_lays_fixed_values_over_ranges_dict_by_dict() -> None:
    space = {"model": {"backbone": Pick("a", "b"), "freeze": "none"}, "optimizer": Branch({"sgd": {}}), "lr": 1}
    fixed = {"model": {"backbone": "c", "weights": "none"}, "optimizer": {"name": "sgd"}, "lr": {"value": 2}}
    result = merged(space, fixed)
    assert result == {
        "model": {"backbone": "c", "freeze": "none", "weights": "none"},
        "optimizer": {"name": "sgd"},
        "lr": {"value": 2},
    }
    assert space["model"] == {"backbone": Pick("a", "b"), "freeze": "none"}  # not changed in place


def test_set_path_replaces_adds_and_leaves_the_rest_and_the_original_alone() -> None:
    changed = set_path(set_path(SPACE, "augment.rotate", None), "model.head.name", "linear")
    assert changed["augment"]["rotate"] is None
    assert changed["augment"]["mix"] == SPACE["augment"]["mix"]
    assert changed["model"] == {"head": {"name": "linear"}}
    assert isinstance(SPACE["augment"]["rotate"], Maybe)
    assert "model" not in SPACE


def test_setting_the_name_of_a_branch_fixes_the_arm_and_keeps_its_ranges() -> None:
    changed = set_path(SPACE, "optimizer.name", "sgd")
    trial = random_trials(1)[0]
    assert draw(changed, trial)["optimizer"].keys() == {"name", "lr", "momentum"}
    assert "optimizer" not in trial.params
    assert {"optimizer/lr", "optimizer/momentum"} <= trial.params.keys()


def test_setting_a_parameter_of_a_branch_fixes_it_in_every_arm_that_has_it() -> None:
    branch = set_path(set_path(SPACE, "optimizer.lr", 0.01), "optimizer.momentum", 0.9)["optimizer"]
    assert branch.arms["sgd"] == {"lr": 0.01, "momentum": 0.9}
    assert branch.arms["adam"] == {"lr": 0.01}


def test_setting_a_part_of_a_maybe_turns_it_on() -> None:
    changed = set_path(SPACE, "augment.rotate.degrees", 12)
    assert draw(changed["augment"], random_trials(1)[0])["rotate"] == {"degrees": 12}


def test_setting_a_part_of_a_branch_inside_a_maybe_turns_it_on_with_that_arm() -> None:
    augment = set_path(SPACE, "augment.mix.name", "mixup")["augment"]
    assert augment["mix"] == {"name": "mixup", "alpha": Float(0.1, 0.8)}
    with pytest.raises(ConfigError, match=r"^'mix' has no arm 'mixupp'\. Did you mean 'mixup'\?$"):
        set_path(SPACE, "augment.mix.name", "mixupp")


def test_setting_a_part_of_what_is_off_turns_it_on() -> None:
    assert set_path({"augment": None}, "augment.rotate.degrees", 5) == {"augment": {"rotate": {"degrees": 5}}}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("optimizer.name", "'optimizer' has no arm 'x'. Known: sgd, adam."),
        ("optimizer.momentun", "no arm of 'optimizer' has a parameter 'momentun'. Did you mean 'momentum'?"),
        ("image_size.px", "'image_size' is the plain value 224; it has no 'px'. Set 'image_size' itself."),
        ("batch_size.a.b", "'batch_size' is the plain value Pick(16, 32); it has no 'a.b'. Set 'batch_size' itself."),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_in_words(path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        set_path(SPACE, path, "x")
    assert str(caught.value) == message


def test_an_arm_that_is_no_name_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"^'optimizer' has no arm '\[1\]'\. Known: sgd, adam\.$"):
        set_path(SPACE, "optimizer.name", [1])


def test_a_misspelt_arm_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"^'optimizer' has no arm 'adamm'\. Did you mean 'adam'\?$"):
        set_path(SPACE, "optimizer.name", "adamm")


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("batch_size", [16, 32]),
        ("image_size", [224]),
        ("optimizer", []),
        ("layers", []),
        ("augment", []),
        ("augment.rotate", []),
        ("absent", []),
        ("image_size.px", []),
    ],
)
def test_possible_values_lists_plain_values_only(path: str, values: list[Any]) -> None:
    assert possible_values(SPACE, path) == values


@pytest.mark.parametrize(
    ("node", "largest"),
    [
        (Float(0.5, 2.5), 2.5),
        (Int(1, 8), 8),
        (Pick(None, 3, 7.5, "x"), 7.5),
        (Pick(None, "x"), 0),
        (96, 96),
        (True, 0),
        (None, 0),
        ("x", 0),
    ],
)
def test_highest_is_the_largest_number_and_zero_where_there_is_none(node: Any, largest: float) -> None:
    assert highest({"a": {"b": node}}, "a.b") == largest
    assert highest({"a": {"b": node}}, "a.c") == 0
    assert highest({"a": {"b": node}}, "a.b.c") == 0
