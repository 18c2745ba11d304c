"""An epoch has randomness of its own, whichever process loads its images and whenever it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables import loop
from trainables.checkpoint import TrialFiles, load_state
from trainables.config.trial import TrialConfig
from trainables.data.augment import train_transform
from trainables.data.loader import TrialData, batches
from trainables.loop import EpochResult, fit
from trainables.seeds import derived_seed
from trainables.tasks import LABEL_TASKS

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]
RANDOM: dict[str, Any] = {
    "augment": {
        "rotate": {"degrees": 10.0, "p": 1.0},
        "random_resized_crop": {"scale_min": 0.6},
        "tone": {},
        "policy": {"name": "randaugment"},
        "coarse_dropout": {"hole_px": 4},
        "mix": {"name": "mixup", "alpha": 1.0},
    },
    "model": {"head": {"name": "linear", "dropout": 0.3}},
    "ema_decay": 0.9,
    "accumulate": 2,
}


def trained(config: TrialConfig, data: TrialData, num_workers: int = 0, **options: Any) -> list[EpochResult]:
    return list(fit(config, data, CPU, num_workers=num_workers, **options))


def epoch_of_data(config: TrialConfig, data: TrialData, epoch: int, num_workers: int = 0) -> list[torch.Tensor]:
    """The images of an epoch as `fit` asks for them."""
    labels = LABEL_TASKS[config.task].encode(data.dataset.targets, 10)
    seed = derived_seed(config.seed, epoch)
    found = batches(
        data, "train", labels, train_transform(config), config.batch_size, seed=seed, num_workers=num_workers
    )
    return [images for images, _ in found]


class Same:
    """A data set with one image at every position."""

    def __init__(self, image: np.ndarray, bad: Any) -> None:
        self.image = image
        self.bad = bad

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.image


def test_no_two_epochs_of_any_seeds_are_alike(digits: Digits, tiny: Tiny) -> None:
    """The sum of seed and epoch repeated most of them, so trainings with other seeds hardly differed."""
    data = digits(train=16)
    orders = set()
    pixels = set()
    head = set()
    for seed, epoch in product(range(4), range(12)):
        plain = tiny(seed=seed)
        augmented = tiny(seed=seed, augment={"rotate": {"degrees": 40.0, "p": 1.0}})
        orders.add(torch.cat(epoch_of_data(plain, data, epoch)).numpy().tobytes())
        rotated = torch.cat(epoch_of_data(augmented, data, epoch)).float().mean(dim=0)  # whatever their order
        pixels.add(rotated.numpy().tobytes())
        torch.manual_seed(derived_seed(seed, epoch))
        head.add(float(torch.rand(())))
    assert len(orders) == len(pixels) == len(head) == 48


def test_a_training_draws_its_epochs_from_its_seed_and_their_number(
    digits: Digits, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    real = loop.batches

    def recorded(*arguments: Any, **options: Any) -> Any:
        seeds.append(options["seed"])
        return real(*arguments, **options)

    monkeypatch.setattr(loop, "batches", recorded)
    for seed in range(3):
        trained(tiny(seed=seed, epochs=4), digits(train=16, val=8))
    assert len(set(seeds)) == 12
    assert seeds[:4] == [derived_seed(0, epoch) for epoch in range(4)]


def test_every_batch_of_an_epoch_is_augmented_in_its_own_way(digits: Digits, tiny: Tiny) -> None:
    data = digits(train=16)
    config = tiny(batch_size=4, repeat=1, augment={"random_resized_crop": {"scale_min": 0.3}})
    data = replace(data, images=Same(data.images[0], data.images.bad))
    seen = torch.cat(epoch_of_data(config, data, 0))
    assert len({image.numpy().tobytes() for image in seen}) == 16


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_epoch_is_the_same_however_many_processes_load_it(digits: Digits, tiny: Tiny, num_workers: int) -> None:
    data = digits(train=90, val=10)
    config = tiny(epochs=2, **RANDOM)
    alone = trained(config, data)
    helped = trained(config, data, num_workers)
    assert [one.metrics for one in helped] == [one.metrics for one in alone]
    stored = helped[-1].state.model.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in alone[-1].state.model.state_dict().items())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_training_is_the_same_bit_for_bit_with_other_loader_processes_too(
    digits: Digits, tiny: Tiny, tmp_path: Path, num_workers: int
) -> None:
    config = tiny(epochs=3, **RANDOM)
    data = digits(train=50, val=10)
    straight = trained(config, data)
    trial = TrialFiles(tmp_path / "checkpoints", tmp_path / "predictions", "val/accuracy", "max", 1)
    trial.save(next(fit(config, data, CPU, num_workers=num_workers)), resumable=True)
    torch.manual_seed(12345)
    np.random.seed(12345)
    resumed = trained(config, data, num_workers, resume=load_state(trial.last))
    assert [one.metrics for one in resumed] == [one.metrics for one in straight[1:]]
    for before, after in (
        (straight[-1].state.model, resumed[-1].state.model),
        (straight[-1].state.weights, resumed[-1].state.weights),
    ):
        stored = after.state_dict()
        assert all(torch.equal(value, stored[name]) for name, value in before.state_dict().items())
