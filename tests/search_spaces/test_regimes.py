"""Spaces whose root is a Branch of whole configurations."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from search_spaces.finite import configurations, num_configurations
from search_spaces.grammar import REGIME, Branch, Float, Int, Maybe, Pick, walk
from search_spaces.paths import highest, is_range, lowest, possible_values
from search_spaces.regimes import readable, regimes_of, wholes
from search_spaces.search import Search
from search_spaces.serial import search_from_json, search_to_json
from trainables.config.io import parse_config
from visionsweep.core.errors import ConfigError

PROBE: dict[str, Any] = {
    "model": {"backbone": Pick("resnet18", "resnet34"), "freeze": "all"},
    "optimizer": {"name": "adam", "lr": 0.01},
    "image_size": Pick(64, 96),
    "views": Pick(1, 2),
    "epochs": 1,
}
FINETUNE: dict[str, Any] = {
    "model": {"backbone": Pick("resnet18", "resnet50"), "freeze": Pick("none", "stage1")},
    "optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.1, log=True)}, "adamw": {"lr": Float(1e-5, 1e-3, log=True)}}),
    "image_size": Pick(32, 64),
    "augment": {"rotate": Maybe({"degrees": Int(5, 30)})},
    "epochs": Pick(4, 12),
}
SPACE = Branch({"probe": PROBE, "finetune": FINETUNE})


def search(space: Any = SPACE, **values: Any) -> Search:
    return Search(task="multiclass", space=space, **{"epochs": 12, **values}).for_task("multiclass")


def drawn(search: Search, count: int = 60) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [search.draw(study.ask()) for _ in range(count)]


def test_a_regime_is_drawn_as_a_flat_configuration_that_names_it() -> None:
    configs = drawn(search(fixed={"batch_size": 8}))
    assert {config["regime"] for config in configs} == {"probe", "finetune"}
    for config in configs:
        parsed = parse_config(config, "drawn")
        assert parsed.regime == config["regime"]
        if config["regime"] == "probe":
            assert "augment" not in config
            assert (parsed.model.freeze, parsed.epochs) == ("all", 1)
        else:
            assert "views" not in config
            assert parsed.epochs in (4, 12)
    assert {config["epochs"] for config in configs} == {1, 4, 12}


def test_parameters_carry_their_regime_in_their_name_and_encode_is_the_inverse_of_draw() -> None:
    chosen = search()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(40):
        trial = study.ask()
        config = chosen.draw(trial)
        assert chosen.encode(config) == trial.params
        assert all(name == REGIME or name.startswith(f"regime/{config['regime']}/") for name in trial.params)


def test_what_stands_beside_the_regimes_belongs_to_all_of_them() -> None:
    beside = {"regime": SPACE, "model": {"weights": "none"}, "batch_size": Pick(8, 16), "image_size": 48}
    configs = drawn(search(beside))
    assert all(config["model"]["weights"] == "none" and config["batch_size"] in (8, 16) for config in configs)
    assert all(config["image_size"] in (32, 64, 96) for config in configs)  # a regime's own values count
    assert drawn(search(SPACE, fixed={"image_size": 48}))[0]["image_size"] == 48  # what is fixed counts more


def test_fixed_parts_reach_into_the_regimes_that_have_the_key() -> None:
    fixed = {"model": {"weights": "none"}, "augment": {"blur": None}, "precision": "bf16"}
    for config in drawn(search(fixed=fixed)):
        assert (config["model"]["weights"], config["precision"]) == ("none", "bf16")
        assert set(config.get("augment", {})) == (set() if config["regime"] == "probe" else {"rotate", "blur"})


def test_a_tasks_own_reaches_into_every_regime() -> None:
    flip = {"horizontal_flip": {"p": 0.5}}
    by_task = {"multiclass": {"augment": {**flip, "rotate": None}, "loss": Branch({"focal": {}})}}
    configs = drawn(search(space_by_task=by_task))
    for config in configs:
        assert config["loss"]["name"] == "focal"
        assert config["augment"].items() >= flip.items()
        assert config["regime"] == "finetune" or config["augment"]["rotate"] is None
    assert any(config["augment"]["rotate"] for config in configs)  # fine-tuning has its own word on it


LOSS = {"multiclass": {"loss": Branch({"cross_entropy": {"label_smoothing": Float(0, 0.2)}, "focal": {}})}}
SOLVED = Branch({"probe": {**PROBE, "loss": None}, "finetune": FINETUNE})


def test_a_regime_that_names_a_key_keeps_what_it_says_over_what_a_task_adds() -> None:
    configs = drawn(search(SOLVED, space_by_task=LOSS, fixed={"batch_size": 8}))
    losses = {name: [config["loss"] for config in configs if config["regime"] == name] for name in SOLVED.arms}
    assert losses["probe"]
    assert set(map(str, losses["probe"])) == {"None"}
    assert {loss["name"] for loss in losses["finetune"]} == {"cross_entropy", "focal"}
    left = next(config for config in configs if config["regime"] == "probe")
    assert parse_config(left, "drawn").loss.name == "cross_entropy"  # the schema's, for this task


@pytest.mark.parametrize("space", [SOLVED, SPACE], ids=["left to the schema", "unnamed"])
def test_a_set_loss_reaches_every_regime_that_leaves_it_open(space: Branch) -> None:
    whole = Search(task="classification", space=space, space_by_task=LOSS, fixed={"batch_size": 8}, epochs=12)
    for task in ("multiclass", "multilabel"):  # also where the task's own part does not name it
        configs = drawn(whole.with_set({"loss.name": "focal"}).for_task(task))
        assert {config["regime"] for config in configs} == {"probe", "finetune"}
        assert {parse_config(config, "drawn").loss.name for config in configs} == {"focal"}


@pytest.mark.parametrize(
    ("key", "value", "left"),
    [
        ("model.freeze", "none", "finetune"),
        ("model.freeze", "all", "both"),  # fine-tuning picks its own: any value can be set there
        ("optimizer.name", "sgd", "finetune"),
        ("optimizer", {"name": "sgd", "lr": 0.1}, "finetune"),
        ("optimizer.lr", 0.001, "finetune"),  # the probe's is another plain value
        ("model.backbone", "resnet50", "both"),
        ("image_size", 48, "both"),
        ("batch_size", 4, "both"),
        ("augment.rotate", None, "both"),
        ("views", 4, "both"),
        ("regime", "probe", "probe"),
    ],
)
def test_set_keeps_the_regimes_in_which_the_value_makes_sense(key: str, value: Any, left: str) -> None:
    configs = drawn(search().with_set({key: value}))
    assert {config["regime"] for config in configs} == ({"probe", "finetune"} if left == "both" else {left})
    head, _, rest = key.partition(".")
    having = [config for config in configs if head in config]
    assert having
    for config in having:
        found = config[head][rest] if rest else config[head]
        assert found == value


def test_a_value_that_every_regime_says_otherwise_is_set_in_all_of_them() -> None:
    space = Branch({"a": {"image_size": 32, "model": {"backbone": "resnet18"}}, "b": {"image_size": 64}})
    configs = drawn(search(space).with_set({"image_size": 48}))
    assert {(config["regime"], config["image_size"]) for config in configs} == {("a", 48), ("b", 48)}


def test_a_parameter_of_one_named_part_leaves_the_other_regimes_alone() -> None:
    probe = {**PROBE, "optimizer": {"name": "lbfgs", "l2": None}}
    chosen = search(Branch({"probe": probe, "finetune": FINETUNE})).with_set({"optimizer.lr": 0.01})
    for config in drawn(chosen):
        assert config["optimizer"].get("lr") == (0.01 if config["regime"] == "finetune" else None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"regime": "prob"}, "unknown regime 'prob'. Did you mean 'probe'?"),
        ({"regime.probe": 1}, "'regime.probe' is no path of a configuration. Set 'regime', or 'probe'."),
        ({"optimizer.lrr": 1}, "no arm of 'optimizer' has a parameter 'lrr'. Did you mean 'lr'?"),
        ({"regime": "probe", "model.freeze.x": 1}, "'freeze' is the plain value 'all'; it has no 'x'."),
    ],
)
def test_a_wrong_set_is_answered_in_words(settings: dict[str, Any], words: str) -> None:
    space = Branch({"probe": {"model": PROBE["model"]}, "finetune": FINETUNE})
    with pytest.raises(ConfigError, match=words.replace("?", r"\?").replace("'", ".")):
        search(space).with_set(settings)


def test_a_search_of_one_way_to_train_knows_no_regime() -> None:
    with pytest.raises(ConfigError, match="regime 'probe' is not of this search"):
        search({"image_size": 32}).with_set({"regime": "probe"})


def test_paths_walk_every_regime() -> None:
    space = search(fixed={"model": {"weights": "none"}}).full_space
    assert possible_values(space, "regime") == ["probe", "finetune"]
    assert set(possible_values(space, "model.backbone")) == {"resnet18", "resnet34", "resnet50"}
    assert set(possible_values(space, "model.weights")) == {"none"}
    assert (highest(space, "image_size"), lowest(space, "image_size"), highest(space, "epochs")) == (96, 32, 12)
    assert not is_range(space, "image_size")
    assert is_range(space, "optimizer.lr")
    assert [whole["regime"] for whole in wholes(space)] == ["probe", "finetune"]


def test_a_search_with_regimes_survives_search_json() -> None:
    chosen = search(warm_start=({"regime": "probe", "views": 2},))
    again = search_from_json(search_to_json(chosen))
    assert again.full_space == chosen.full_space
    assert again.encode(again.warm_start[0]) == {"regime": "probe", "regime/probe/views": 2}


def test_a_warm_start_that_names_no_regime_is_of_the_one_that_says_most_of_it() -> None:
    chosen = search()
    whole = {"model": {"backbone": "resnet18", "freeze": "none"}, "optimizer": {"name": "sgd", "lr": 0.01}}
    assert chosen.encode(whole)["regime"] == "finetune"
    assert chosen.encode({"model": {"freeze": "all", "backbone": "resnet34"}, "views": 1})["regime"] == "probe"
    assert chosen.encode({"model": {"freeze": "all"}, "epochs": 7}) == {"regime": "finetune"}


def test_configurations_of_finite_regimes_are_counted_and_listed() -> None:
    space = search(Branch({"a": PROBE, "b": {"epochs": Int(1, 3)}}), space_by_task={}).full_space
    assert num_configurations(space) == 8 + 3
    listed = list(configurations(space))
    assert sum(config["regime"] == "a" for config in listed) == 8
    assert [config["epochs"] for config in listed if config["regime"] == "b"] == [1, 2, 3]


def test_conditions_read_as_words() -> None:
    rows = {readable(name): readable(when) for name, _, when in walk(search().full_space)}
    assert rows["regime"] == ""
    assert rows["probe: views"] == "regime = probe"
    assert rows["finetune: optimizer/sgd/lr"] == "finetune: optimizer = sgd"


def test_the_spaces_own_lengths_win_and_none_is_longer_than_the_searchs() -> None:
    with pytest.raises(ConfigError, match="trials of up to 12 epochs, and epochs=8 is to be the longest"):
        search(epochs=8)
    assert {config["epochs"] for config in drawn(search({"epochs": Int(2, 6)}, epochs=6))} == {2, 3, 4, 5, 6}
    some = search(Branch({"a": {"epochs": 1}, "b": {"image_size": 32}}), epochs=5)
    assert {config["epochs"] for config in drawn(some)} == {1, 5}


def test_first_trials_of_a_regime_that_is_left_out_are_left_out_with_it() -> None:
    first = ({"regime": "probe", "views": 2}, {"model": {"freeze": "none"}}, {"regime": "finetune"}, {"views": 1})
    chosen = search(warm_start=first)
    assert chosen.with_set({"regime": "finetune"}).warm_start == (first[1], first[2])
    assert chosen.with_set({"regime": "probe"}).warm_start == (first[0], first[3])
    assert chosen.with_set({"image_size": 64}).warm_start == first


def test_setting_the_epochs_sets_every_length_that_is_a_choice() -> None:
    for epochs, lengths in ((30, {1, 30}), (6, {1, 6}), (1, {1})):
        chosen = search().with_set({"epochs": epochs})
        assert chosen.epochs == epochs
        assert {config["epochs"] for config in drawn(chosen)} == lengths
        assert set(regimes_of(chosen.full_space)) == {"probe", "finetune"}
    for plain in ({"epochs": Pick(2, 4)}, {"epochs": 5}):
        assert {config["epochs"] for config in drawn(search(plain).with_set({"epochs": 3}))} == {3}
    two = search(Branch({"a": {"epochs": 1}, "b": {"epochs": 12}}))
    assert {config["epochs"] for config in drawn(two.with_set({"epochs": 30}))} == {1, 30}
