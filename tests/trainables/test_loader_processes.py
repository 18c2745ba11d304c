"""Loader processes are started once per training, change no result, and end with it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import make_sides, tiny_config

from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data import loader_processes
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.data.loader_processes import Loaders
from trainables.loop import EpochResult, fit

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
# Dropout and mixed images: training draws random numbers besides the loaders'.
CONFIG = parse_config(
    tiny_config(
        task="multiclass",
        model={"backbone": "test_resnet", "weights": "none", "head": {"name": "linear", "dropout": 0.3}},
        augment={"horizontal_flip": {}, "rotate": {}, "policy": {"name": "randaugment"}, "mix": {"name": "mixup"}},
        batch_size=16,
        epochs=3,
    )
)


@pytest.fixture(autouse=True)
def four_batches_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_processes, "FEW_BATCHES", 4)


def metrics(epochs: list[EpochResult]) -> list[dict[str, float]]:
    return [epoch.metrics for epoch in epochs]


def pids() -> set[int]:
    return {process.pid or 0 for process in multiprocessing.active_children()}


def trained_with_processes(config: TrialConfig, data: TrialData) -> tuple[list[EpochResult], list[set[int]]]:
    """Return the epochs of a training with two processes, and the processes that lived after each."""
    epochs = []
    seen = []
    for epoch in fit(config, data, CPU, num_workers=2):
        epochs.append(epoch)
        seen.append(pids())
    return epochs, seen


def test_processes_are_started_once_change_no_result_and_end_with_the_training(
    digits: Callable[..., TrialData],
) -> None:
    before = pids()
    epochs, seen = trained_with_processes(CONFIG, digits())
    assert len(seen[0] - before) == 2  # those that train; the few validation batches are loaded without any
    assert seen[0] == seen[1] == seen[2]
    assert pids() == before
    assert metrics(epochs) == metrics(list(fit(CONFIG, digits(), CPU)))


def test_a_segmentation_with_many_validation_batches_has_processes_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = make_sides(tmp_path / "sides", noise=90, brighter=110)
    scenes = TrialData(*load_dataset(str(sides), short_side_px=32, cache_dir=tmp_path / "cache"))
    config = parse_config(
        tiny_config(
            task="segmentation",
            model={"backbone": "test_resnet", "architecture": {"name": "fpn", "channels": 16}, "weights": "none"},
            batch_size=4,
        )
    )
    monkeypatch.setattr(loader_processes, "FEW_BATCHES", 2)
    before = pids()
    epochs, seen = trained_with_processes(config, scenes)
    assert len(seen[0] - before) == 4
    assert seen[0] == seen[1]
    assert pids() == before
    monkeypatch.setattr(loader_processes, "FEW_BATCHES", 10_000)  # no processes
    assert metrics(epochs) == metrics(list(fit(config, scenes, CPU)))


def test_a_training_that_is_closed_or_fails_leaves_no_process(digits: Callable[..., TrialData]) -> None:
    before = pids()
    stopped = fit(CONFIG, digits(), CPU, num_workers=2)
    next(stopped)
    assert pids() - before
    stopped.close()  # type: ignore[attr-defined]
    assert pids() == before

    def full() -> str | None:
        if pids() - before:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return None

    with pytest.raises(torch.OutOfMemoryError):
        list(fit(CONFIG, digits(), CPU, num_workers=2, should_stop=full))
    assert pids() == before


def test_few_batches_start_no_process(digits: Callable[..., TrialData]) -> None:
    before = pids()
    _, seen = trained_with_processes(CONFIG.model_copy(update={"batch_size": 32, "epochs": 1}), digits())
    assert seen == [before]


def test_a_gpu_holds_its_validation_batches_after_the_first_epoch(
    digits: Callable[..., TrialData], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = digits()
    plain = metrics(list(fit(CONFIG, data, CPU)))
    read: list[int] = []

    class Counted:
        def __init__(self, images: Any) -> None:
            self.images = images

        def __getitem__(self, position: int) -> Any:
            read.append(position)
            return self.images[position]

        def at(self, view: Any, indices: Any) -> Counted:
            return Counted(self.images.at(view, indices))

    monkeypatch.setattr(loader_processes, "HELD_ON", ("cpu",))
    held = metrics(list(fit(CONFIG, TrialData(data.dataset, Counted(data.images)), CPU)))  # type: ignore[arg-type]
    assert held == plain
    judged = set(data.dataset.indices("val").tolist())
    assert sum(position in judged for position in read) == len(judged)  # of three epochs


@pytest.mark.parametrize(("room", "passes"), [(10**6, 1), (100, 2)])
def test_only_batches_that_fit_are_held(monkeypatch: pytest.MonkeyPatch, room: int, passes: int) -> None:
    monkeypatch.setattr(loader_processes, "HELD_ON", ("cpu",))
    monkeypatch.setattr(loader_processes, "HELD_BYTES", room)
    made = 0

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        nonlocal made
        made += 1
        yield torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.ones(2, 3)

    with Loaders(0, CPU, holds=True) as loaders:
        first = list(loaders.held("val", batches))
        again = list(loaders.held("val", batches))
    assert made == passes
    assert torch.equal(first[0][1], again[0][1])
