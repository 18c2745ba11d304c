"""`visionsweep recipes`, `train --recipe` and `train --set`."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from support import Outcome

from launch.cli.recipes import about, configuration, print_recipes, to_yaml
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces import Branch, Float, Pick, Search, recipe
from search_spaces.recipes import RECIPES
from trainables.config.io import load_config, parse_config
from trainables.config.optimizer import Adam
from visionsweep.core.errors import ConfigError

CLI = Callable[..., Outcome]
TINY = ("--set", "model.backbone=test_resnet", "--set", "image_size=32", "--set", "epochs=1", "--set", "batch_size=8")


def test_the_list_names_every_recipe_with_task_model_and_result(visionsweep: CLI) -> None:
    listed = visionsweep("recipes")
    assert listed.code == 0, listed.err
    assert all(name in listed.out for name in RECIPES)
    wide = Console(width=400, file=io.StringIO(), record=True)
    print_recipes(wide)
    lines = wide.export_text().splitlines()
    line = next(line for line in lines if line.startswith("report-3080ti/seresnext101-mish "))
    for words in ("multilabel", "seresnext101_32x4d + mish_mlp", "F1 59.2", "the report's best"):
        assert words in line
    assert any("pspnet + resnet50" in line for line in lines)


def test_a_recipe_is_told_with_its_source_and_its_configuration(visionsweep: CLI) -> None:
    told = visionsweep("recipes", "report-cv4/alexnet-scratch")
    assert told.code == 0, told.err
    for words in ('report "CV Homework 4", Q1-3', "accuracy 0.7175", "no pretrained weights", "backbone: alexnet"):
        assert words in told.out


def test_a_long_section_becomes_one_line() -> None:
    told = about("report-cv4/fcn8s-3-classes")
    assert told.summary == "FCN-8s without its skips, CamVid's 11 classes merged to three."
    assert list(told.sections) == ["Source", "Result", "Settings", "Chosen", "Run"]
    assert told.sections["Chosen"].endswith("had by far the worst.")


@pytest.mark.parametrize("name", RECIPES)
def test_the_yaml_of_a_recipe_is_read_back_to_the_same_configuration(name: str, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(to_yaml(name))
    assert load_config(tmp_path / "my.yaml") == parse_config(recipe(name))


def test_the_command_prints_the_yaml_alone(visionsweep: CLI) -> None:
    printed = visionsweep("recipes", "report-deeper/fcn32s", "--yaml")
    assert (printed.code, printed.err) == (0, "")
    assert printed.out == to_yaml("report-deeper/fcn32s")
    assert printed.out.startswith("task: segmentation\n")
    assert yaml.safe_load(printed.out)["optimizer"]["lr"] == 1e-10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["recipes", "report-cv4/fcn8"], "unknown recipe 'report-cv4/fcn8'. Did you mean 'report-cv4/fcn8s'?"),
        (["recipes", "nothing-like-it", "--yaml"], "unknown recipe 'nothing-like-it'. Known: "),
        (["recipes", "--yaml"], "--yaml prints one recipe, and none is named."),
        (["train", "--data", "digits"], "train takes a CONFIG or --recipe, got neither."),
        (
            ["train", "a.yaml", "--recipe", "report-voc/unet", "--data", "digits"],
            "train takes a CONFIG or --recipe, got a.yaml and report-voc/unet.",
        ),
        (
            ["train", "--recipe", "report-voc/u-net", "--data", "digits"],
            "unknown recipe 'report-voc/u-net'. Did you mean 'report-voc/unet'?",
        ),
        (["train", "--recipe", "report-voc/unet", "--data", "digits", "--set", "epochs"], "--set takes key=value"),
        (
            ["train", "--recipe", "report-voc/unet", "--data", "digits", "--set", "image_sise=64"],
            "recipe report-voc/unet with --set: unknown key 'image_sise'. Did you mean 'image_size'?",
        ),
        (
            ["train", "--recipe", "report-voc/unet", "--data", "digits", "--set", "epochs.more=1"],
            "'epochs' is the plain value 30; it has no 'more'.",
        ),
    ],
)
def test_a_wrong_word_is_answered(visionsweep: CLI, arguments: list[str], words: str) -> None:
    refused = visionsweep(*arguments)
    assert refused.code == 2, refused.out
    assert words in refused.err
    assert "Traceback" not in refused.err


def test_set_changes_parts_of_a_recipe_at_any_depth() -> None:
    config = configuration(
        None,
        "report-voc/baseline",
        ["image_size=64", "optimizer.lr=1e-4", "augment.rotate.degrees=5", "loss={name: dice, ce_weight: 1}"],
    )
    assert (config.image_size, config.optimizer.lr, config.loss.name) == (64, 1e-4, "dice")
    assert config.augment.rotate is not None
    assert config.augment.rotate.degrees == 5
    assert configuration(None, "report-voc/baseline", []) == parse_config(recipe("report-voc/baseline"))


def test_set_changes_parts_of_a_file_and_names_it_where_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(to_yaml("report-cv4/alexnet-scratch"))
    assert configuration(file, None, []).epochs == 25
    assert configuration(file, None, ["epochs=3"]).epochs == 3
    with pytest.raises(ConfigError, match=r"one\.yaml with --set: 'epochs' is 0"):
        configuration(file, None, ["epochs=0"])


def test_another_optimizer_keeps_what_both_have_and_drops_what_only_the_old_one_has() -> None:
    config = configuration(None, "report-cv4/alexnet-scratch", ["optimizer.name=adam"])
    before = recipe("report-cv4/alexnet-scratch")["optimizer"]
    assert before["momentum"] == 0.9
    assert config.optimizer == Adam(lr=before["lr"], weight_decay=before["weight_decay"])
    whole = configuration(None, "report-cv4/alexnet-scratch", ["optimizer={name: adam, lr: 0.5}"])
    assert (whole.optimizer.name, whole.optimizer.lr) == ("adam", 0.5)


@pytest.mark.parametrize(
    ("path", "name", "name_of_recipe"),
    [
        ("schedule", "constant", "report-deeper/inception-v3"),
        ("loss", "dice", "report-deeper/fcn32s"),
        ("model.architecture", "segnet", "report-cv4/fcn8s"),
        ("model.head", "linear", "report-3080ti/seresnext101-mish"),
        ("augment.policy", "randaugment", "report-cv4/efficientnet-b2-autoaugment"),
    ],
)
def test_every_part_that_comes_in_kinds_can_be_another_kind(path: str, name: str, name_of_recipe: str) -> None:
    part: Any = configuration(None, name_of_recipe, [f"{path}.name={name}"])
    for step in path.split("."):
        part = getattr(part, step)
    assert part.name == name


@pytest.mark.parametrize("turn", [1, -1], ids=["the name first", "the name last"])
def test_what_was_set_by_hand_is_refused_where_it_does_not_fit(turn: int) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'optimizer\.momentum'"):
        configuration(None, "report-cv4/alexnet-scratch", ["optimizer.name=adam", "optimizer.momentum=0.5"][::turn])
    both = ["optimizer={name: sgd, lr: 1}", "optimizer.lr=0.5"][::turn]
    assert configuration(None, "report-cv4/alexnet-scratch", both).optimizer.lr == 0.5


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("optimizer.name=adm", r"unknown optimizer 'adm'\. Did you mean 'adam'\?"),
        ("optimiser.name=adam", r"unknown key 'optimiser'\. Did you mean 'optimizer'\?"),
        ("epochs.name=adam", r"'epochs' is the plain value 25"),
        ("merge.name=[a]", r"'merge' means nothing to task 'binary'"),
    ],
)
def test_a_wrong_kind_is_answered_with_the_nearest_right_one(assignment: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configuration(None, "report-cv4/alexnet-scratch", [assignment])


def test_a_recipe_trains_on_photos(visionsweep: CLI, photos: Path) -> None:
    smaller = ("--set", "image_size=64", "--set", "epochs=1", "--set", "batch_size=8")
    trained = visionsweep("train", "--recipe", "report-cv4/alexnet-scratch", "--data", photos, *smaller)
    assert trained.code == 0, trained.err
    assert "epoch 1  " in trained.out
    assert "Best: val/accuracy" in trained.out


def test_what_was_set_is_exported_and_trains_again_from_the_export(visionsweep: CLI, photos: Path) -> None:
    arguments = ("--recipe", "report-cv4/alexnet-scratch", "--data", photos, *TINY)
    trained = visionsweep("train", *arguments, "--seed", 3, "--out", "first")
    assert trained.code == 0, trained.err
    exported = load_config(Path("first/config.yaml"))
    assert (exported.model.backbone, exported.image_size, exported.seed) == ("test_resnet", 32, 3)
    again = visionsweep("train", "first/config.yaml", "--data", photos, "--set", "optimizer.lr=0.01", "--out", "second")
    assert again.code == 0, again.err
    assert load_config(Path("second/config.yaml")).optimizer.lr == 0.01


def test_a_recipe_is_the_first_trial_of_a_search(tmp_path: Path) -> None:
    space: dict[str, Any] = {
        "model": {"backbone": Pick("resnet18", "seresnext101_32x4d")},
        "optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.3, log=True)}, "adam": {"lr": Float(1e-5, 1e-2, log=True)}}),
        "batch_size": Pick(16, 32),  # the recipe's 64 is not to be had
    }
    first = recipe("report-3080ti/seresnext101-mish")
    search = Search(task="multilabel", space=space, warm_start=[first]).for_task("multilabel")
    searcher = StudySearcher(search, Records.create(tmp_path / "run", {"search": {}}), 0, None, None)
    proposed = searcher.suggest("a")
    assert isinstance(proposed, dict)
    assert proposed["config"]["model"]["backbone"] == "seresnext101_32x4d"
    assert proposed["config"]["optimizer"] == {"name": "sgd", "lr": 0.05}
    assert proposed["config"]["batch_size"] in (16, 32)
