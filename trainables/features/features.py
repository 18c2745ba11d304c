"""Train and evaluate a head on the features of its frozen backbone, computed once per machine.

Only deterministic features are kept: the evaluation's view of the validation images, and `views` pictures of each
training image. They equal those of the whole model to the last bit (see `inference.chunk_images`). A backbone that is
trained later gives the features that its training starts from. Frozen ones share them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from trainables.config.parts import part_names
from trainables.config.trial import TrialConfig
from trainables.data.balanced import balanced_draws
from trainables.data.cache import CachedImages
from trainables.data.dataset import Dataset
from trainables.data.kept_views import KeptView, Pixels, judged_view, training_views
from trainables.data.loader import LOADER_S, TrialData, passes, shuffled
from trainables.data.loader_processes import Loaders
from trainables.data.on_demand import OnDemandImages
from trainables.data.stratify import stratified_draw
from trainables.data.tensors import to_tensor
from trainables.features.feature_key import backbone_key
from trainables.features.feature_store import kept_rows
from trainables.features.images_key import images_key
from trainables.inference import chunk_images, features_of
from trainables.models.build import Model
from trainables.models.classifiers import Classifier
from trainables.seeds import derived_seed
from visionsweep.core.errors import DataError

MOST_IN_MEMORY = 2**30  # bytes of features that a training holds without a store for them
PIECE = 32  # images that a loader process reads at once; a GPU computes the features of several pieces together


def frozen_backbone(
    config: TrialConfig,
    model: Model,
    data: TrialData,
    device: torch.device,
    *,
    num_workers: int = 0,
    ask: Callable[[], None] = lambda: None,
) -> FrozenBackbone | None:
    """Return the backbone, or several joined ones, as a source of features; None unless all of it is frozen.

    num_workers  loader processes
    ask          called before every batch that is computed, raises to stop
    """
    if not isinstance(model, Classifier) or config.model.freeze != "all":
        return None
    return FrozenBackbone(config, model, data, device, num_workers, ask)


@dataclass
class FrozenBackbone:
    """Features of a data set's images, each computed on first use.

    Features of joined backbones are kept separately. So trials with single backbones and with both share them. The
    model's backbone is in evaluation mode, and frozen or not trained yet.
    """

    config: TrialConfig
    model: Classifier
    data: TrialData
    device: torch.device
    num_workers: int
    ask: Callable[[], None]
    widths: list[int] = field(default_factory=list)  # of each backbone's or stage's features, once some are kept
    _judged: dict[str, Tensor | None] = field(default_factory=dict)
    _trained_on: list[Tensor | None] = field(default_factory=list)

    @cached_property
    def _parts(self) -> list[tuple[Classifier, dict[str, Any]]]:
        """Each backbone with its key. It gives the means of its stages too, as they cost next to nothing."""
        named = zip(self.model.parts(), part_names(self.config.model.backbone or ""), strict=True)
        return [(part.wide(), backbone_key(self.config, part, self.device, name)) for part, name in named]

    def judged(self, split: str) -> Tensor | None:
        """Return (N, F) of a split's images in the evaluation's view. None for no images, or no room to keep them."""
        if split not in self._judged:
            indices = self.data.dataset.indices(split)
            self._judged[split] = self._kept(self._judged_view, indices) if len(indices) else None
        return self._judged[split]

    def of_images(self, indices: npt.NDArray[np.int64]) -> Tensor:
        """Return (N, F) of some images in the evaluation's view, on the CPU. They must fit into memory."""
        features = self._kept(self._judged_view, indices, most_in_memory=sys.maxsize)
        assert features is not None
        return features

    def batches(self, labels: Tensor, epoch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (features (B, F), targets (B, K)) of a training epoch, in the order that images would have.

        labels  (N, K) float of the whole data set
        seed    shuffles the epoch

        Every image shows its views in turn, one each time. The configuration's seed draws the first one.
        """
        config = self.config
        indices = images_learnt(self.config, self.data.dataset, "train")
        num_images = len(indices)
        num_views = config.views or 1
        repeat = passes(config, num_images)
        self._compute_training_views(indices)
        generator = torch.Generator().manual_seed(derived_seed(config.seed, 0, num_views))
        first = torch.randint(num_views, (num_images,), generator=generator)
        drawn_ones = balanced_draws(config, labels[torch.from_numpy(indices)], epoch)
        for draws in drawn_ones or shuffled(num_images, config.batch_size, seed, repeat, config.accumulate):
            drawn = torch.tensor(draws)
            rows = drawn % num_images
            times = drawn // num_images
            turn = (first[rows] + epoch * repeat + times) % num_views
            yield self._rows(rows, turn, indices), labels[torch.from_numpy(indices[rows.numpy()])]

    def training_rows(self, splits: Sequence[str] = ("train",)) -> tuple[Tensor, Tensor]:
        """Return (V * N, F) of all views of the splits' images, on the CPU, and the image (V * N,) of each row.

        Raises DataError if there is no room for them.
        """
        rows = []
        images = []
        for split in splits:
            indices = images_learnt(self.config, self.data.dataset, split)
            num_views = self.config.views or 1
            views = [partial(self._training_view, number) for number in range(num_views)]
            kept = [of_view for view in views if (of_view := self._kept(view, indices)) is not None]
            if len(kept) < num_views:
                raise DataError(
                    f"the features of {len(indices)} images in {num_views} views fit neither beside the decoded "
                    "images nor into the memory. Free some disk, or set views=1."
                )
            rows += kept
            images.append(torch.from_numpy(indices).repeat(len(kept)))
        return torch.cat(rows), torch.cat(images)

    def _compute_training_views(self, indices: npt.NDArray[np.int64]) -> None:
        if not self._trained_on:
            views = [partial(self._training_view, number) for number in range(self.config.views or 1)]
            self._trained_on = [self._kept(view, indices) for view in views]

    def _rows(self, rows: Tensor, turn: Tensor, indices: npt.NDArray[np.int64]) -> Tensor:
        """Return (B, F), of each row the features of the view `turn`."""
        parts = []
        order = []
        for number in sorted(set(turn.tolist())):
            (places,) = torch.nonzero(turn == number, as_tuple=True)
            kept = self._trained_on[number]
            of_view = rows[places]
            if kept is None:
                view = self._training_view(number, indices)
                (part,) = self._computed(self.model, view, [indices[of_view.numpy()]])
            else:
                part = kept[of_view]
            parts.append(part)
            order.append(places)
        features = torch.cat(parts)
        return torch.empty_like(features).index_copy_(0, torch.cat(order), features)

    def _judged_view(self, indices: npt.NDArray[np.int64]) -> KeptView:
        return judged_view(self.config, self.data, indices)

    def _training_view(self, number: int, indices: npt.NDArray[np.int64]) -> KeptView:
        return training_views(self.config, self.data, indices)[number]

    def _kept(
        self,
        view_of: Callable[[npt.NDArray[np.int64]], KeptView],
        indices: npt.NDArray[np.int64],
        *,
        most_in_memory: int | None = None,
    ) -> Tensor | None:
        """Return (N, F) of the images in the view that `view_of` makes of them, None if there is no room."""
        most = most_in_memory or MOST_IN_MEMORY // ((self.config.views or 0) + 1)
        # Fold by fold: all folds of all trials share them, whichever of them is judged.
        folds = self.data.dataset.folds
        of_image = np.zeros(len(indices), np.int64) if folds is None else folds[indices]
        places = [np.flatnonzero(of_image == fold) for fold in np.unique(of_image)]
        found = []
        for place in places:
            rows = indices[place]
            part = self._kept_rows(view_of(rows), rows, most * len(rows) // len(indices))
            if part is None:
                return None
            found.append(part)
        if len(found) == 1:
            return found[0]
        return torch.cat(found)[torch.from_numpy(np.argsort(np.concatenate(places)))]

    def _kept_rows(self, view: KeptView, indices: npt.NDArray[np.int64], most: int) -> Tensor | None:
        last, of_stages = [], []
        for model, key in self._parts:
            kept = self._kept_part(model, key, view, indices, most // len(self._parts))
            if kept is None:
                return None
            channels = [width for _, width in model.maps]
            own, *means = torch.split(kept, [kept.shape[1] - sum(channels), *channels], dim=1)
            last.append(own)
            of_stages += means
        parts = last + of_stages if self.model.sees_maps else last
        self.widths = [part.shape[1] for part in parts]
        if len(self._parts) > 1:
            return torch.cat(parts, dim=1)
        return kept if self.model.sees_maps else parts[0]  # not copied, as it may be a file's

    def _kept_part(
        self, model: Classifier, key: dict[str, Any], view: KeptView, indices: npt.NDArray[np.int64], most: int
    ) -> Tensor | None:
        size = chunk_images(self.config, self.device)
        chunks = [indices[start : start + size] for start in range(0, len(indices), size)]
        return kept_rows(
            _store(self.data),
            {**key, **images_key(indices, view.key)},
            len(indices),
            lambda: self._computed(model, view, chunks),
            most_in_memory=most,
            ask=self.ask,
        )

    def _computed(self, model: Classifier, view: KeptView, chunks: Sequence[npt.NDArray[np.int64]]) -> Iterator[Tensor]:
        """Yield (B, F) of each chunk, on the CPU, in the type that the head takes."""
        cut = [[chunk[at : at + PIECE].tolist() for at in range(0, len(chunk), PIECE)] for chunk in chunks]
        pieces = [piece for parts in cut for piece in parts]
        # The training's own draws must not depend on features computed before.
        with Loaders(self.num_workers, self.device, draws=False) as loaders:
            loaded = loaders.load("features", _Pictures(view), pieces, to_tensor, LOADER_S)
            for parts in cut:
                self.ask()
                read = [piece.to(self.device, non_blocking=True) for piece in islice(loaded, len(parts))]
                images_u8 = read[0] if len(read) == 1 else torch.cat(read)
                yield features_of(self.config, model, images_u8, self.device).cpu()


def images_learnt(config: TrialConfig, dataset: Dataset, split: str) -> npt.NDArray[np.int64]:
    """Return (n,) the images of a split that a head on kept features learns from, ascending.

    A larger training set is cut to `epoch_images` images. They are the same for all trials with that number and seed.
    """
    indices: npt.NDArray[np.int64] = dataset.indices(split)
    if split != "train" or config.epoch_images is None:
        return indices
    drawn: npt.NDArray[np.int64] = indices[stratified_draw(dataset.targets[indices], config.epoch_images, config.seed)]
    return drawn


class _Pictures(TorchDataset[list[Pixels]]):
    """Pictures (S, S, 3) uint8 by the positions of their images."""

    def __init__(self, view: KeptView) -> None:
        self.view = view

    def __getitems__(self, indices: list[int]) -> list[Pixels]:
        return [self.view(index) for index in indices]


def _store(data: TrialData) -> Path | None:
    """Return the folder of features beside the decoded images, None if those are not kept."""
    place = data.images.place if isinstance(data.images, (CachedImages, OnDemandImages)) else None
    return None if place is None else place.folder("features")
