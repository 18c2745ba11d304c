"""Every recipe builds its model, takes a step on tiny input of its task, and resumes from a checkpoint.

Only what makes a recipe large is changed: image size, batch and epochs. Backbones of hundreds of millions of weights
are replaced by small relatives with the same blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.recipes import RECIPES, recipe
from trainables.checkpoint import TrialFiles, load_state
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.loop import fit

CPU = torch.device("cpu")
DATA = {
    "binary": "digits:binary",
    "multiclass": "digits",
    "multilabel": "digits:multilabel",
    "segmentation": "digits:segmentation",
}
SMALL = {
    "resnet": "test_resnet",
    "seresnext": "test_resnet",
    "pnasnet": "test_resnet",
    "tf_efficientnet": "test_efficientnet",
    "efficientnet": "test_efficientnet",
}
LEAST_SIZE = {"inception_v3": 75, "alexnet": 64}  # of the two that stay themselves


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other over networks this small cost ten times what they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(name: str) -> TrialConfig:
    values: dict[str, Any] = recipe(name)
    model = values["model"]
    backbone = model.get("backbone")
    if backbone is not None:
        small = next((small for start, small in SMALL.items() if backbone.startswith(start)), backbone)
        values["model"] = {**model, "backbone": small}
    values["model"]["weights"] = "none"
    size = LEAST_SIZE.get(str(backbone), 32)
    values |= {"image_size": size, "batch_size": 2, "accumulate": 1, "epochs": 2, "repeat": 1}
    values["schedule"] = {**values["schedule"], "warmup_epochs": 0.0}
    if values.get("short_side") is not None:
        values["short_side"] = size
    if values.get("merge"):
        values["merge"] = {"low": ["0", "1", "2"], "high": ["7", "8", "9"]}
    return parse_config(values, name)


@cache
def data(task: str) -> TrialData:
    """Two images to train on, two to judge by."""
    dataset, images = load_dataset(DATA[task], short_side_px=64, cache_dir=None)
    split = np.full(len(dataset.split), "duplicate", dtype=dataset.split.dtype)
    for side in ("train", "val"):
        split[dataset.indices(side)[:2]] = side
    return TrialData(replace(dataset, split=split), images)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_a_step_and_goes_on_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    config = tiny(name)
    files = TrialFiles(tmp_path / "c", tmp_path / "p", "val/loss", "min", 1)
    stop_after_one: Callable[[], Any] = iter(fit(config, data(config.task), CPU)).__next__
    first = stop_after_one()
    assert first.state.num_steps == 1
    assert np.isfinite(first.metrics["train/loss"])
    files.save(first, resumable=True)
    second = next(fit(config, data(config.task), CPU, resume=load_state(files.last)))
    assert (second.epoch, second.state.num_steps) == (2, 2)
    assert np.isfinite(second.metrics["train/loss"])
