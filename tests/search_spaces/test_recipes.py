"""Contracts that every recipe keeps, and what the five reports say of single ones."""

from __future__ import annotations

import inspect
import re
from typing import Any

import optuna
import pytest
import torch

from search_spaces import Branch, Float, Maybe, Pick, Search, recipe
from search_spaces.recipes import RECIPES
from search_spaces.regimes import within
from search_spaces.shipped import SEARCHES
from trainables.config.augment import AugmentConfig
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import train_transform
from trainables.models.build import build_model
from trainables.schedules import lr_factor
from visionsweep.core.errors import ConfigError

REPORTS = {
    "report-deeper": 'CSC 449 "We need to go deeper"',
    "report-3080ti": 'ECE 449 "3080Ti"',
    "report-cv4": '"CV Homework 4"',
    "report-voc": 'UCSD "Convolutional Network Implementation for Semantic Segmentation"',
    "report-dlcv": '"DLCV HW 1"',
}

# Every result that the reports give, by the recipe that aims at it.
RESULTS = {
    "report-deeper/inception-v3": "F1 46.9, precision 47.6, recall 50.0",
    "report-deeper/fcn32s": "mIoU 25.33, pixel accuracy 35.35",
    "report-deeper/pspnet": "background",
    "report-deeper/segnet": "background",
    "report-deeper/unet": "background",
    "report-3080ti/resnet34": "F1 45.8",
    "report-3080ti/pnasnet5-frozen": "F1 50.7",
    "report-3080ti/efficientnet-b7": "F1 52.4",
    "report-3080ti/seresnext101": "F1 57.5",
    "report-3080ti/efficientnet-b7-mish": "F1 56.1",
    "report-3080ti/seresnext101-mish": "F1 59.2",
    "report-3080ti/seresnext101-mish-batch80": "59.2 F1",
    "report-3080ti/seresnext101-mish-cosine": "less stable",
    "report-3080ti/seresnext101-mish-cosine-then-multistep": "stable convergence",
    "report-3080ti/seresnext101-mish-adam": "worse",
    "report-cv4/resnet18-frozen": "accuracy 0.83 ",
    "report-cv4/resnet18-frozen-tight-crop": "accuracy 0.7825",
    "report-cv4/resnet18-finetuned": "accuracy 0.875 ",
    "report-cv4/resnet18-finetuned-tight-crop": "accuracy 0.8925",
    "report-cv4/alexnet-scratch": "accuracy 0.7175",
    "report-cv4/efficientnet-b2-autoaugment": "accuracy 0.9075",
    "report-cv4/fcn8s": "mIoU 0.4295, pixel accuracy 0.8523",
    "report-cv4/fcn8s-no-skips": "mIoU 0.4055, pixel accuracy 0.8384",
    "report-cv4/fcn8s-3-classes": "mIoU 0.8261, pixel accuracy 0.9629",
    "report-voc/baseline": "IoU 0.05893",
    "report-voc/baseline-adam": "worse than AdamW",
    "report-voc/cosine": "IoU 0.06136",
    "report-voc/augmented": "IoU 0.06393",
    "report-voc/weighted": "IoU 0.06786",
    "report-voc/deeper": "IoU 0.07658",
    "report-voc/resnet18": "IoU 0.15017, pixel accuracy 74.45",
    "report-voc/unet": "IoU 0.08326",
    "report-dlcv/resnet101": "accuracy 0.8748",
    "report-dlcv/fcn32s": "mIoU 0.6936",
    "report-dlcv/deeplabv3": "mIoU 0.7344",
}


def parsed(name: str) -> TrialConfig:
    return parse_config(recipe(name), name)


def lr_in(name: str, epoch: int) -> float:
    """The learning rate in the middle of an epoch, counted from 1 as the reports do."""
    config = parsed(name)
    return config.optimizer.lr * lr_factor(config.schedule, epoch - 0.5, config.epochs)


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {path: node}
    return {key: value for name, below in node.items() for key, value in leaves(below, f"{path}/{name}").items()}


def test_every_pipeline_of_the_reports_is_a_recipe() -> None:
    assert set(RECIPES) == set(RESULTS)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_configuration_that_says_what_matters(name: str) -> None:
    values = recipe(name)
    config = parsed(name)
    assert {"task", "model", "optimizer", "loss", "schedule", "augment"} <= set(values)
    assert {"epochs", "batch_size", "image_size", "fit_image", "precision", "accumulate"} <= set(values)
    assert {"weights", "freeze"} <= set(values["model"])
    # Every augmentation is set on or off, as a warm start would draw what is left out.
    assert set(values["augment"]) == set(AugmentConfig.model_fields)
    for part in ("optimizer", "loss", "schedule"):
        assert values[part]["name"] == getattr(config, part).name


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_a_model_and_augmentations_that_can_be_built(name: str) -> None:
    values = recipe(name)
    values["model"]["weights"] = "none"
    config = parse_config(values, name)
    with torch.device("meta"):  # shapes without memory: some of these networks are large
        model = build_model(config.model, 7, config.image_size)
    assert any(parameter.requires_grad for parameter in model.parameters())
    assert train_transform(config).transforms


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_tells_its_report_its_result_and_its_command(name: str) -> None:
    text = inspect.cleandoc(RECIPES[name].__doc__ or "")
    sections = re.findall(r"^([A-Z][a-z]+): (.+)$", text, flags=re.MULTILINE)
    told = dict(sections)
    assert [section for section, _ in sections] == ["Source", "Result", "Settings", "Chosen", "Run"]
    assert REPORTS[name.partition("/")[0]] in told["Source"]
    assert RESULTS[name] in told["Result"]
    assert told["Run"] == f"visionsweep train --recipe {name} --data DIR"
    mentioned = {word.rstrip(".,;") for word in text.split() if word.startswith("report-")}
    assert mentioned <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_callers_to_change(name: str) -> None:
    changed = recipe(name)
    changed["model"]["weights"] = changed["augment"]["rotate"] = changed["optimizer"]["lr"] = "changed"
    assert "changed" not in leaves(recipe(name)).values()


def test_no_two_recipes_are_the_same() -> None:
    configs = [parsed(name) for name in RECIPES]
    assert all(config not in configs[:number] for number, config in enumerate(configs))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("report-3080ti/seresnext101-misch", "report-3080ti/seresnext101-mish"),
        ("alexnet-scratch", "report-cv4/alexnet-scratch"),
        ("report-voc/basline", "report-voc/baseline"),
    ],
)
def test_a_misspelt_recipe_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"unknown recipe '{wrong}'. Did you mean '{right}'?")):
        recipe(wrong)


def test_the_stepwise_rates_of_the_summed_loss_change_where_the_report_says() -> None:
    rates = {epoch: lr_in("report-deeper/fcn32s", epoch) for epoch in (1, 15, 16, 31, 32, 50)}
    assert rates == pytest.approx({1: 1e-10, 15: 1e-10, 16: 5e-11, 31: 5e-11, 32: 2.5e-11, 50: 2.5e-11}, rel=1e-9)
    assert recipe("report-deeper/fcn32s")["loss"]["reduction"] == "sum"


def test_the_schedules_of_3080ti_are_the_reports() -> None:
    main = "report-3080ti/seresnext101-mish"
    cosine = "report-3080ti/seresnext101-mish-cosine"
    for milestone, passed in ((5, 1), (10, 2), (20, 3), (40, 4), (75, 5)):
        assert lr_in(main, milestone) == pytest.approx(0.05 * 0.25 ** (passed - 1))
        assert lr_in(main, milestone + 1) == pytest.approx(0.05 * 0.25**passed)
    config = parsed(cosine)
    assert config.optimizer.lr * lr_factor(config.schedule, 150, config.epochs) == pytest.approx(5e-6)


def test_the_second_stage_steps_at_the_reports_milestones_and_ends_where_its_cosine_would() -> None:
    name = "report-3080ti/seresnext101-mish-cosine-then-multistep"
    for milestone in (5, 10, 20, 40, 75):
        assert lr_in(name, 80 + milestone + 1) == pytest.approx(0.25 * lr_in(name, 80 + milestone))
    assert lr_in(name, 160) == pytest.approx(5e-6, rel=0.05)


def test_the_merged_street_scenes_are_three_classes_of_all_eleven() -> None:
    merge = recipe("report-cv4/fcn8s-3-classes")["merge"]
    merged = [name for names in merge.values() for name in names]
    assert len(merge) == 2
    assert len(set(merged)) == len(merged) == 10  # sky stays
    assert "sky" not in merged


def test_the_voc_recipes_add_one_thing_each() -> None:
    ladder = ["baseline", "cosine", "augmented", "weighted"]
    added = [{"/schedule"}, {"/repeat", "/augment"}, {"/loss"}]
    for before, after, parts in zip(ladder, ladder[1:], added, strict=False):
        first = leaves(recipe(f"report-voc/{before}"))
        second = leaves(recipe(f"report-voc/{after}"))
        changed = {path for path in {**first, **second} if first.get(path) != second.get(path)}
        assert {"/" + path.split("/")[1] for path in changed} == parts


# --- as a warm start ------------------------------------------------------------------------------------------------


def test_the_best_of_3080ti_starts_the_large_search_but_for_a_blur_that_it_does_not_offer() -> None:
    search = SEARCHES["classification-gpu-large"].for_task("multilabel")
    best = recipe("report-3080ti/seresnext101-mish")
    params = search.encode(best)
    assert params["regime"] == "reports"
    flat = {within(name)[1]: value for name, value in params.items()}
    assert flat["model/backbone"] == "seresnext101_32x4d"
    assert (flat["model/head"], flat["model/head/mish_mlp/hidden"]) == ("mish_mlp", 256)
    assert (flat["optimizer/sgd/lr"], flat["schedule/multistep/gamma"]) == (0.05, 0.25)
    assert (flat["augment/tone"], flat["augment/rescale"]) == (True, False)
    drawn = search.draw(_Noted(params))
    lost = {path for path, value in leaves(drawn).items() if path in leaves(best) and value != leaves(best)[path]}
    of_the_search = {"/epochs", "/precision", "/clip_grad_norm"}
    assert lost == {"/augment/blur/limit_px", *of_the_search}  # 4 is not one of Pick(3, 5, 7)


def test_values_outside_the_ranges_are_left_to_the_sampler() -> None:
    search = Search(
        task="multilabel",
        space={
            "model": {"backbone": Pick("resnet18", "resnet34")},
            "optimizer": Branch({"sgd": {"lr": Float(0.1, 1.0), "momentum": Float(0.8, 0.99)}}),
            "schedule": Branch({"cosine": {}}),
            "augment": {"rotate": Maybe({"p": 0.5, "degrees": Float(20, 30)})},
            "batch_size": Pick(16, 32),
        },
    )
    flat = search.encode(recipe("report-3080ti/seresnext101-mish"))
    assert flat == {"optimizer": "sgd", "optimizer/sgd/momentum": 0.9, "augment/rotate": True}


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", RECIPES)
def test_any_recipe_may_start_any_search(name: str, search: str) -> None:
    """The data may have another task, too: what cannot be expressed there is drawn."""
    asked = SEARCHES[search]
    task = "multiclass" if asked.task == "classification" else asked.task
    settled = asked.for_task(task)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(settled.encode(recipe(name)))
    assert settled.draw(study.ask())["task"] == task


class _Noted:
    """A trial that gives the noted values, and the lowest or first where there is none."""

    def __init__(self, flat: dict[str, Any]) -> None:
        self.flat = flat

    def suggest_float(self, name: str, low: float, high: float, **_: Any) -> float:
        return float(self.flat.get(name, low))

    def suggest_int(self, name: str, low: int, high: int, **_: Any) -> int:
        return int(self.flat.get(name, low))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.flat.get(name, choices[0])
