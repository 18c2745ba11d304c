"""A trial continues without loader processes that are killed, hang, or have no shared memory."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny_config
from torch.utils.data import get_worker_info

from trainables.config.io import parse_config
from trainables.data import loader, loader_processes
from trainables.data.loader import TrialData
from trainables.data.view import View
from trainables.loop import EpochResult, fit
from trainables.worker.failures import LOADERS_LOST, failing, is_loader_failure, without_lost_loaders
from trainables.worker.settings import TrialSettings
from trainables.worker.trainable import VisionTrainable

CONFIG = tiny_config(
    task="multiclass", optimizer={"name": "sgd", "lr": 0.05}, epochs=1, batch_size=16, fit_image="squash"
)


@pytest.fixture(autouse=True)
def four_batches_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_processes, "FEW_BATCHES", 4)


class _Fatal:
    """Images whose reading ends, or stops, a loader process, and no other one."""

    def __init__(self, images: Any, number: int | None) -> None:
        self.images = images
        self.number = number

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> np.ndarray:
        if get_worker_info() is not None:
            if self.number is None:
                raise ValueError("this image cannot be decoded")
            os.kill(os.getpid(), self.number)
        image: np.ndarray = self.images[position]
        return image

    def at(self, view: View, indices: np.ndarray) -> _Fatal:
        return _Fatal(self.images.at(view, indices), self.number)


def trained(data: TrialData, tmp_path: Path, number: int | None) -> dict[str, Any]:
    settings = TrialSettings(
        run_dir=tmp_path, metric="val/accuracy", mode="max", short_side_px=32, cache_dir=None, cpus=1, gpu_share=0.0,
        num_workers=1, deadline=None, stop_file=tmp_path / "stop",
    )  # fmt: skip
    trial = VisionTrainable.__new__(VisionTrainable)
    asked = {"trial_id": "0000", "config": CONFIG, "resume": False}
    trial.setup(asked, data.dataset, settings)
    trial.data = replace(data, images=_Fatal(data.images, number))
    trial.reset_config(asked)
    try:
        return trial.step()
    finally:
        trial.cleanup()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS, signal.SIGSTOP])
def test_a_trial_whose_loader_process_is_lost_goes_on_without_one(
    digits: Callable[..., TrialData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(loader, "LOADER_S", 3.0)
    result = trained(digits(), tmp_path, number)
    assert (result["status"], result.get("epoch")) == ("complete", 1), result
    assert result["note"] == LOADERS_LOST


def test_train_whose_loader_process_is_killed_goes_on_from_its_last_epoch(
    digits: Callable[..., TrialData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = digits()
    data = replace(data, images=_Fatal(data.images, signal.SIGKILL))
    config = parse_config(CONFIG, "the test")
    lost = []
    said = []

    def begin(loaders: int) -> Iterator[EpochResult]:
        lost.append(loaders)
        return fit(config, data, torch.device("cpu"), num_workers=loaders)

    epochs = [result.epoch for result in without_lost_loaders(begin, 1, said.append)]
    assert (epochs, lost, said) == ([1], [1, 0], [LOADERS_LOST])
    with pytest.raises(ValueError, match="cannot be decoded"):
        list(without_lost_loaders(lambda _: failing(ValueError("cannot be decoded")), 1, said.append))


def test_an_image_that_cannot_be_read_is_no_fault_of_the_loader(
    digits: Callable[..., TrialData], tmp_path: Path
) -> None:
    result = trained(digits(), tmp_path, None)
    assert result["status"] == "failed"
    assert "this image cannot be decoded" in result["reason"]


@pytest.mark.parametrize(
    "words",
    [
        "unable to write to file </torch_123_456_7>: No space left on device (28)",
        "DataLoader worker (pid 71) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit.",
        "received 0 items of ancdata",
    ],
)
def test_the_words_of_a_small_shared_memory_are_known(words: str) -> None:
    assert is_loader_failure(RuntimeError(words))
    assert not is_loader_failure(ValueError(words))
