"""A small set of real digits and tiny configurations, for tests that train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny_config

from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other over networks this small cost ten times what they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrialData]:
    """Return `digits(train=96, val=40)`: the first images of scikit-learn's digits."""
    dataset, images = load_dataset("digits", short_side_px=32, cache_dir=tmp_path_factory.mktemp("cache"))

    def take(train: int = 64, val: int = 40) -> TrialData:
        split = np.full(len(dataset.split), "duplicate", dtype=dataset.split.dtype)
        for name, count in (("train", train), ("val", val)):
            split[dataset.indices(name)[:count]] = name
        return TrialData(replace(dataset, split=split), images)

    return take


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., TrialData]:
    """Return `loaded(train=96, val=40)`: digits with a cache of this test's own, or none with cache=None."""

    def load(
        train: int = 64, val: int = 40, cache: Path | None = tmp_path / "cache", short_side: int = 32
    ) -> TrialData:
        dataset, images = load_dataset("digits", short_side_px=short_side, cache_dir=cache)
        split = np.full(len(dataset.split), "duplicate", dtype=dataset.split.dtype)
        for name, count in (("train", train), ("val", val)):
            split[dataset.indices(name)[:count]] = name
        return TrialData(replace(dataset, split=split), images)

    return load


@pytest.fixture(scope="session")
def tiny() -> Callable[..., TrialConfig]:
    """Return `tiny(epochs=2, ...)`: the configuration of a tiny network on digits, with the given changes."""

    def make(backbone: str = "test_resnet", model: dict[str, Any] | None = None, **changed: Any) -> TrialConfig:
        plain = {
            "task": "multiclass",
            "model": {"backbone": backbone, "weights": "none", **(model or {})},
            "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
            "epochs": 1,
            "batch_size": 16,
            "fit_image": "squash",
        }
        return parse_config(tiny_config(**{**plain, **changed}))

    return make
