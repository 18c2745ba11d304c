"""Every backbone that a shipped search names: timm has it and its weights, it builds, and it takes a step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import optuna
import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)

from search_spaces.paths import possible_values
from search_spaces.regimes import wholes
from search_spaces.shipped import SEARCHES
from trainables.config.adapter import Lora
from trainables.config.io import parse_config
from trainables.config.model import ClassifierConfig
from trainables.config.parts import part_names
from trainables.config.solved import Lbfgs
from trainables.config.trial import TrialConfig
from trainables.costs import num_parameters
from trainables.models.adapters import LowRank
from trainables.models.backbones import TORCHVISION_BACKBONES
from trainables.models.build import build_model
from trainables.optimizers import build_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")

STEPPED = 12_000_000  # weights: of larger networks one of each family takes a step, see FAMILIES
FAMILIES = ("vit_small_patch16_dinov3", "eva02_small_patch14_336", "convnext_tiny.dinov3_lvd1689m", "convnextv2_nano")
STEP_PX = 64
Case = tuple[str, str, str]  # search, regime (empty if the search has none), backbone


def cases() -> Iterator[Case]:
    for name, search in SEARCHES.items():
        for whole in wholes(search.space):
            for backbone in possible_values(whole, "model.backbone"):
                yield name, str(whole.get("regime", "")), str(backbone)


CASES = sorted(set(cases()))
BACKBONES = sorted({part for _, _, backbone in CASES for part in part_names(backbone)})


@cache
def size(backbone: str) -> int:
    with torch.device("meta"):
        return num_parameters(build_model(ClassifierConfig(backbone=backbone, weights="none"), 3, 224))


@cache
def drawn(name: str, regime: str, backbone: str) -> TrialConfig:
    asked: dict[str, Any] = {"model.backbone": backbone, "model.weights": "none"}
    search = SEARCHES[name].with_set(({"regime": regime} if regime else {}) | asked)
    task = "multiclass" if search.task == "classification" else search.task
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=len(backbone)))
    return parse_config(search.for_task(task).draw(study.ask()), name)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_timm_has_the_backbone_and_weights_for_it(backbone: str) -> None:
    if backbone in TORCHVISION_BACKBONES:
        assert TORCHVISION_BACKBONES[backbone].weights.url
        return
    assert timm.is_model(backbone)
    about = timm.get_pretrained_cfg(backbone)
    assert about is not None
    assert about.has_weights
    assert about.license, "docs/backbones.md says what the weights may be used for"
    assert not backbone.startswith("test_") or about.hf_hub_id


CLASSIFIERS = [case for case in CASES if SEARCHES[case[0]].task != "segmentation"]


@pytest.mark.parametrize("backbone", sorted({part for *_, backbone in CLASSIFIERS for part in part_names(backbone)}))
def test_a_backbone_builds_at_the_smallest_and_the_largest_size_of_its_searches(backbone: str) -> None:
    """On the meta device: shapes alone. No patch has to divide the sizes."""
    sizes: set[int] = set()
    adapter = None
    for name, regime, names in CLASSIFIERS:
        if backbone in part_names(names):
            whole = next(one for one in wholes(SEARCHES[name].full_space) if str(one.get("regime", "")) == regime)
            sizes |= set(map(int, possible_values(whole, "image_size")))
            adapter = Lora() if regime == "lora" else adapter
    for image_size in {min(sizes), max(sizes)}:
        with torch.device("meta"):
            model = build_model(ClassifierConfig(backbone=backbone, weights="none", adapter=adapter), 3, image_size)
            output = model.train()(torch.empty(2, 3, image_size, image_size))
        logits = output[0] if isinstance(output, tuple) else output
        assert logits.shape == (2, 3)


def stepped() -> list[Case]:
    """Trained ones that are small, once for each regime, however many searches have them."""
    found = {
        (regime, backbone): name
        for name, regime, backbone in CLASSIFIERS
        if regime != "probe" and (size(backbone) < STEPPED or backbone in FAMILIES)
    }
    return [(name, regime, backbone) for (regime, backbone), name in found.items()]


@pytest.mark.parametrize(("name", "regime", "backbone"), stepped())
def test_a_small_backbone_takes_a_step_that_moves_what_its_regime_trains(name: str, regime: str, backbone: str) -> None:
    config = drawn(name, regime, backbone)
    assert not isinstance(config.optimizer, Lbfgs)
    torch.manual_seed(0)
    model = build_model(config.model, 3, STEP_PX).train()
    optimizer = build_optimizer(config.optimizer, model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for one in model.modules():
            if isinstance(one, LowRank):  # else only one of the two matrices has a gradient
                one.up.normal_(std=0.01)
    images = torch.randn(2, 3, STEP_PX, STEP_PX)
    output = model(images)
    logits = output[0] if isinstance(output, tuple) else output
    loss = F.cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    missing = {name for name, one in model.named_parameters() if name in trained and one.grad is None}
    optimizer.step()
    assert torch.isfinite(loss)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert any(name.startswith("head.") for name in moved)
    assert moved <= trained
    assert not missing, missing
    assert 2 * len(moved) > len(trained)  # what a ReLU shut off had no gradient
    if isinstance(config.model, ClassifierConfig) and config.model.adapter:
        assert all(name.startswith("head.") or name.endswith((".up", ".down")) for name in trained)
