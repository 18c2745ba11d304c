"""Every configuration that the shipped searches draw can be built and trained.

Every backbone is built as it is on the meta device, where arithmetic costs nothing. Everything else of a configuration
trains one real epoch of a tiny network on real digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import optuna
import pytest
import torch

from search_spaces.paths import possible_values
from search_spaces.shipped import SEARCHES
from trainables.config.io import parse_config
from trainables.config.model import SegmenterConfig
from trainables.config.parts import part_names
from trainables.config.solved import Lbfgs
from trainables.config.trial import TrialConfig
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.loop import fit
from trainables.models.build import build_model
from trainables.tasks import TASKS
from visionsweep.core.tasks import tasks_of

NUM_DRAWS = 10
DIGITS_OF_TASK = {
    "binary": "digits:binary",
    "multiclass": "digits",
    "multilabel": "digits:multilabel",
    "segmentation": "digits:segmentation",
}
# A backbone's family by the start of its name -> timm's test model with blocks of that kind.
STAND_INS = {
    "test_": None,  # already tiny
    "resnet": "test_resnet",
    "seresnext": "test_resnet",
    "regnety": "test_resnet",
    "alexnet": "test_resnet",
    "inception": "test_resnet",
    "pnasnet": "test_resnet",
    "efficientnet": "test_efficientnet",
    "tf_efficientnet": "test_efficientnet",
    "mobilenet": "test_efficientnet",
    "fastvit": "test_efficientnet",
    "convnext": "test_convnext",
    "vit": "test_vit",
    "eva02": "test_vit",
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other over networks this small cost ten times what they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draws() -> list[tuple[str, int, TrialConfig]]:
    """Ten of every search, its tasks in turn."""
    drawn = []
    for name, search in SEARCHES.items():
        tasks = tasks_of(search.task)
        for number in range(NUM_DRAWS):
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
            config = search.for_task(tasks[number % len(tasks)]).draw(study.ask())
            drawn.append((name, number, parse_config(config, name)))
    return drawn


DRAWS = draws()
FIRST_WITH = {config.model.backbone: config for _, _, config in reversed(DRAWS) if config.task != "segmentation"}


@pytest.mark.parametrize("backbone", FIRST_WITH)
def test_every_drawn_backbone_builds_and_runs_at_the_size_it_was_drawn_with(backbone: str) -> None:
    config = FIRST_WITH[backbone]
    with torch.device("meta"):
        model = build_model(config.model.model_copy(update={"weights": "none"}), 3, config.image_size)
        output = model(torch.empty(2, 3, config.image_size, config.image_size))
    logits = output[0] if isinstance(output, tuple) else output
    assert logits.shape == (2, 3)
    assert any(parameter.requires_grad for parameter in model.head.parameters())


SEGMENTERS = sorted(
    {
        (str(backbone), decoder)
        for search in SEARCHES
        for decoder in map(str, possible_values(SEARCHES[search].space, "model.architecture.name"))
        for backbone in possible_values(SEARCHES[search].space, "model.backbone")
    }
)


@pytest.mark.parametrize(("backbone", "decoder"), SEGMENTERS)
def test_every_decoder_goes_on_every_backbone_of_its_search(backbone: str, decoder: str) -> None:
    parsed = SegmenterConfig.model_validate(
        {"architecture": {"name": decoder, "channels": 64}, "backbone": backbone, "weights": "none"}
    )
    with torch.device("meta"):
        model = build_model(parsed, 3, 64)
        assert model(torch.empty(2, 3, 65, 96)).shape == (2, 3, 65, 96)


@pytest.mark.parametrize(
    "config", [pytest.param(config, id=f"{name}-{number}-{config.task}") for name, number, config in DRAWS]
)
def test_every_drawn_configuration_trains_an_epoch(config: TrialConfig) -> None:
    result = next(fit(tiny(config), twelve_images(config.task), torch.device("cpu")))
    assert result.epoch == 1
    assert np.isfinite([*result.metrics.values(), result.lr]).all()
    if config.task == "segmentation":
        assert result.predictions["masks"].shape == (6 * 64 * 64,)
    else:
        outputs = TASKS[config.task].num_outputs(2 if config.task == "binary" else 10)
        assert result.predictions["logits"].shape == (6, outputs)
    steps = 0 if isinstance(config.optimizer, Lbfgs) else -(-12 // (4 * config.accumulate))  # no step solves a head
    assert result.state.num_steps == steps
    assert result.metrics["val/loss"] > 0


def test_every_drawn_backbone_has_a_stand_in() -> None:
    for backbone in FIRST_WITH:
        assert stand_in(backbone)


def tiny(config: TrialConfig) -> TrialConfig:
    """Return the configuration with a tiny network, tiny images and tiny batches."""
    model = config.model.model_copy(update={"backbone": stand_in(config.model.backbone), "weights": "none"})
    optimizer = config.optimizer
    if config.task != "segmentation" and model.head_init == "probe":
        # Without weights a network's features are a thousandth as large, and its fitted head a thousand times as steep.
        optimizer = optimizer.model_copy(update={"lr": 1e-3 * optimizer.lr})
    if config.task == "segmentation":
        architecture = config.model.architecture.model_copy(update={"channels": 16})
        model = model.model_copy(update={"architecture": architecture})
    sizes = {"image_size": 32, "short_side": None, "batch_size": 4, "least_epoch_images": None}
    return config.model_copy(update={"model": model, "optimizer": optimizer, **sizes})


def stand_in(backbone: str) -> str:
    """Return a small substitute for each of the backbones side by side, all different."""
    first = next(name or backbone for start, name in STAND_INS.items() if backbone.startswith(start))
    others = [name for name in ("test_resnet", "test_efficientnet", "test_convnext") if name != first]
    return "+".join([first, *others][: len(part_names(backbone))])


@cache
def twelve_images(task: str) -> TrialData:
    """Twelve images to train on and six to judge by."""
    dataset, images = load_dataset(DIGITS_OF_TASK[task], short_side_px=64, cache_dir=None)
    split = np.full(len(dataset.split), "duplicate", dtype=dataset.split.dtype)
    for name, count in (("train", 12), ("val", 6)):
        split[dataset.indices(name)[:count]] = name
    return TrialData(replace(dataset, split=split), images)
