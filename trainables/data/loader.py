"""Batches of one split: cached images through the trial's transform, with their targets or their masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from trainables.config.trial import TrialConfig
from trainables.data.cache import Images
from trainables.data.dataset import Dataset
from trainables.data.loader_processes import Loaders
from trainables.data.merge import Merge
from trainables.data.on_device.ops import UndoneBatch, collated
from trainables.data.tensors import to_tensor
from trainables.data.view import View
from trainables.seeds import derived_seed
from visionsweep.core.errors import DataError

Transform = Callable[..., dict[str, Any]]  # albumentations' calling convention
T = TypeVar("T")
Labels = Tensor | Merge  # (N, K) float targets of the whole data set, or how to merge the masks' classes

MOST_PASSED = 100  # images in a row that cannot be read
LOADER_S = 100.0  # for a batch, of any loader process: one that takes longer hangs (`failures.is_loader_failure`)


@dataclass(frozen=True)
class TrialData:
    """The data of a trial: the labelled data set and its decoded images."""

    dataset: Dataset
    images: Images

    def judged(self, config: TrialConfig, split: str) -> TrialData:
        """Return the data with a split's images as the configuration's network is judged on them.

        They are resized once, from the originals. A search trains all sizes on the images of its largest, decoded once.
        """
        return TrialData(self.dataset, self.images.at(View.of(config), self.dataset.indices(split)))


class _Split(TorchDataset[tuple[list[np.ndarray], Any]]):
    """Batches by position. `__getitems__` is torch's own hook for fetching a batch at once."""

    def __init__(self, images: Images, positions: np.ndarray, labels: Labels, transform: Transform) -> None:
        self.images = images
        self.positions = positions
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.positions)

    def __getitems__(self, rows: list[int]) -> tuple[list[np.ndarray], Any]:
        if isinstance(self.labels, Tensor):
            read = [self._read(row) for row in rows]
            arrays = [self.transform(image=pixels)["image"] for _, pixels in read]
            return arrays, self.labels[torch.as_tensor([position for position, _ in read])]
        pairs = [self._with_mask(int(self.positions[row]), self.labels) for row in rows]
        return [image for image, _ in pairs], torch.from_numpy(np.stack([mask for _, mask in pairs]))

    def _read(self, row: int) -> tuple[int, np.ndarray]:
        """Return a row's image (H, W, 3) and its position.

        With images decoded on demand and bad ones skipped, the next readable image replaces an unreadable one.
        """
        for further in range(min(MOST_PASSED, len(self.positions))):
            position = int(self.positions[(row + further) % len(self.positions)])
            try:
                return position, self.images[position]
            except DataError:
                if not getattr(self.images, "skips", False):
                    raise
        raise DataError(f"{MOST_PASSED} images in a row cannot be read, from {row} on. Look at the data.")

    def _with_mask(self, position: int, merge: Merge) -> tuple[np.ndarray, np.ndarray]:
        """Image (S, S, 3) and mask (S, S), moved together."""
        image = self.images[position]
        whole = self.images.mask(position)
        # The cache holds images smaller than their masks. By nearest: between two classes lies no third. Merged after
        # it: of a large mask a few pixels are left.
        mask = cv2.resize(whole, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST_EXACT)
        done = self.transform(image=image, mask=merge.table[mask])
        return done["image"], done["mask"]

    def set_random_seed(self, seed: int) -> None:
        set_seed = getattr(self.transform, "set_random_seed", None)
        if set_seed is not None:
            set_seed(seed)


class _Seeded(TorchDataset[tuple[list[np.ndarray], Any]]):
    """Batches whose transform is seeded one by one, so each is the same in every process."""

    def __init__(self, samples: _Split) -> None:
        self.samples = samples

    def __getitems__(self, batch: tuple[int, list[int]]) -> tuple[list[np.ndarray], Any]:
        seed, rows = batch
        self.samples.set_random_seed(seed)
        return self.samples.__getitems__(rows)


class _Whole(_Split):
    """Images as the network sees them, of whatever sizes, with their masks untouched."""

    def __getitems__(self, rows: list[int]) -> tuple[list[np.ndarray], Any]:
        positions = [int(self.positions[row]) for row in rows]
        assert isinstance(self.labels, Merge)
        images = [self.transform(image=self.images[position])["image"] for position in positions]
        return images, [self.labels.table[self.images.mask(position)] for position in positions]


def _collate(batch: tuple[list[np.ndarray], Any]) -> tuple[Tensor | UndoneBatch, Any]:
    arrays, targets = batch
    return collated(arrays), targets


def batches(
    data: TrialData,
    split: str,
    labels: Labels,
    transform: Transform,
    batch_size: int,
    *,
    seed: int | None = None,
    repeat: int = 1,
    accumulate: int = 1,
    drawn: Sequence[Sequence[int]] | None = None,
    only: slice = slice(None),
    num_workers: int = 0,
    pin_memory: bool = False,
    loaders: Loaders | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of one split, (images (B, S, S, 3) uint8, targets), in order or shuffled by `seed`.

    labels      targets (N, K) float of the whole data set, of which a batch gets its rows (B, K). For masks: how
                their classes are merged, and a batch gets (B, S, S) uint8
    seed        shuffles the order. With a batch's number it also seeds the batch's transform, so an epoch does not
                depend on the number of loader processes. None keeps the order
    repeat      how often an epoch goes through the split
    accumulate  batches in an optimizer step
    drawn       the draws of each batch, None for those of the seed (see `order.py`)
    only        which batches are yielded; the others are never loaded
    loaders     of a training, in place of `num_workers` and `pin_memory`; all passes through a split must be alike
    """
    positions = data.dataset.indices(split)
    samples = _Split(data.images, positions, labels, transform)
    # Choose the rows of each batch, and with a seed that of its transform.
    if seed is None:
        chunks: list[Any] = _chunks(list(range(len(positions))), batch_size)
    else:
        if drawn is None:
            drawn = shuffled(len(positions), batch_size, seed, repeat, accumulate)
        chunks = [
            (derived_seed(seed, number), [draw % len(positions) for draw in draws])
            for number, draws in enumerate(drawn)
        ]
    chunks = chunks[only]
    seeded = samples if seed is None else _Seeded(samples)
    if loaders is not None:
        yield from loaders.load(split, seeded, chunks, _collate, LOADER_S)
        return
    yield from DataLoader(
        seeded,
        batch_sampler=chunks,
        num_workers=num_workers,
        timeout=LOADER_S if num_workers else 0,
        collate_fn=_collate,  # type: ignore[arg-type]  # torch types a list of samples, and __getitems__ gives a batch
        pin_memory=pin_memory,
    )


def shuffled(num_images: int, batch_size: int, seed: int, repeat: int = 1, accumulate: int = 1) -> list[list[int]]:
    """Return the draws of each batch of an epoch.

    Draw d is image d % num_images, for the (d // num_images)-th time.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(repeat * num_images, generator=generator).tolist()
    return in_batches(order[: num_used(len(order), batch_size, accumulate)], batch_size)


def in_batches(order: list[int], batch_size: int) -> list[list[int]]:
    """Split draws into batches. A last batch of a single image is joined to the one before it."""
    chunks = _chunks(order, batch_size)
    if batch_size > 1 and len(chunks) > 1 and len(chunks[-1]) == 1:  # the rest of its step has other images
        chunks[-2:] = [chunks[-2] + chunks[-1]]
    return chunks


def whole_images(
    data: TrialData,
    split: str,
    merge: Merge,
    transform: Transform,
    batch_size: int,
    *,
    max_pixels: int | None = None,
    num_workers: int = 0,
    loaders: Loaders | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images (B, h, w, 3) uint8, masks (B, H, W) uint8) of one split in order, with varying B and sizes.

    A batch holds neighbours of one size: h, w as the network sees them, H, W as the masks have it. `max_pixels` bounds
    the pixels of a batch's images together, but a batch holds at least one image.
    """
    positions = data.dataset.indices(split)
    samples = _Whole(data.images, positions, merge, transform)
    chunks = _chunks(list(range(len(positions))), batch_size)
    if loaders is not None:
        loader: Any = loaders.load(split, samples, chunks, list, LOADER_S)
    else:
        loader = DataLoader(
            samples,
            batch_sampler=chunks,
            num_workers=num_workers,
            timeout=LOADER_S if num_workers else 0,
            collate_fn=list,
        )
    for images, masks in loader:
        pairs = zip(images, masks, strict=True)
        for _, group in groupby(pairs, key=lambda pair: (pair[0].shape, pair[1].shape)):
            same = list(group)
            height, width = same[0][0].shape[:2]
            most = batch_size if max_pixels is None else max(1, max_pixels // (height * width))
            for chunk in _chunks(same, most):
                same_images, same_masks = zip(*chunk, strict=True)
                yield to_tensor(same_images), torch.from_numpy(np.stack(same_masks))


def _chunks(order: list[T], size: int) -> list[list[T]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def passes(config: TrialConfig, num_images: int) -> int:
    """Return how often an epoch goes through a training set of `num_images`."""
    return max(config.repeat, -(-(config.least_epoch_images or 0) // max(num_images, 1)))


def num_used(num_images: int, batch_size: int, accumulate: int = 1) -> int:
    """Return how many images a training epoch uses: all, without a single one left over for the last step.

    Batch norm cannot train on one value per channel. A batch that was halved, and accumulates two, uses the same
    images.
    """
    left_over = num_images % (batch_size * accumulate)
    return num_images - 1 if num_images > 1 and left_over == 1 else num_images
