"""Batches of one split: cached images through the trial's transform, with their targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from trainables.data.cache import Images
from trainables.data.dataset import Dataset

Transform = Callable[..., dict[str, Any]]  # albumentations' calling convention


@dataclass(frozen=True)
class TrialData:
    """What a trial trains on: the labelled data set and its decoded images."""

    dataset: Dataset
    images: Images


class _Split(TorchDataset[tuple[list[np.ndarray], Tensor]]):
    """Whole batches by position: `__getitems__` is torch's own hook for fetching a batch at once."""

    def __init__(self, images: Images, positions: np.ndarray, targets: Tensor, transform: Transform) -> None:
        self.images, self.positions, self.targets, self.transform = images, positions, targets, transform

    def __len__(self) -> int:
        return len(self.positions)

    def __getitems__(self, rows: list[int]) -> tuple[list[np.ndarray], Tensor]:
        arrays = [self.transform(image=self.images[int(self.positions[row])])["image"] for row in rows]
        return arrays, self.targets[torch.as_tensor(rows)]

    def set_random_seed(self, seed: int) -> None:
        set_seed = getattr(self.transform, "set_random_seed", None)
        if set_seed is not None:
            set_seed(seed)


def _collate(batch: tuple[list[np.ndarray], Tensor]) -> tuple[Tensor, Tensor]:
    arrays, targets = batch
    return torch.from_numpy(np.stack(arrays)), targets


def batches(
    data: TrialData,
    split: str,
    targets: Tensor,
    transform: Transform,
    batch_size: int,
    *,
    seed: int | None = None,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of (images (B, S, S, 3) uint8, targets (B, K) float) of one split, in order or shuffled by `seed`.

    targets (N, K) float of the whole data set. With a seed the order, the transform and every worker are
    seeded by it, so that an epoch is the same whenever and wherever it is run with the same num_workers.
    """
    positions = data.dataset.indices(split)
    samples = _Split(data.images, positions, targets[torch.as_tensor(positions)], transform)
    order: list[int] = list(range(len(positions)))
    if seed is not None:
        samples.set_random_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(positions), generator=generator).tolist()
        order = order[: num_used(len(order), batch_size)]
    loader = DataLoader(
        samples,
        batch_sampler=[order[start : start + batch_size] for start in range(0, len(order), batch_size)],
        num_workers=num_workers,
        collate_fn=_collate,  # type: ignore[arg-type]  # torch types a list of samples; __getitems__ gives a batch
        pin_memory=pin_memory,
        worker_init_fn=None if seed is None else _SeedWorker(seed),
    )
    yield from loader


def num_used(num_images: int, batch_size: int) -> int:
    """How many images one training epoch uses: all, but for a single one left over for the last batch.

    Batch norm cannot train on one value per channel.
    """
    return num_images - 1 if num_images > 1 and num_images % batch_size == 1 else num_images


@dataclass(frozen=True)
class _SeedWorker:
    seed: int

    def __call__(self, worker: int) -> None:
        info = torch.utils.data.get_worker_info()
        assert info is not None  # torch calls this inside a worker only
        assert isinstance(info.dataset, _Split)
        info.dataset.set_random_seed(self.seed * 1000 + worker)
        torch.manual_seed(self.seed * 1000 + worker)
        np.random.seed((self.seed * 1000 + worker) % 2**32)
