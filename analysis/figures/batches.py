"""Photos of the user as training sees them: as the network is judged on them, and augmented in a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from analysis.figures.overlays import IMAGE_ERRORS, RunData, thumbnail
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import cached_short_side, eval_transform, mix_batch, train_transform
from trainables.data.dataset import Dataset
from trainables.data.merge import Merge, merge_classes
from trainables.data.tensors import to_tensor
from trainables.data.view import shrunk
from visionsweep.core.errors import RunError
from visionsweep.core.tasks import task_kind
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.trials import Trial

NUM_SHOWN = 8
MOST_TRIED = 40  # photos, where some cannot be read
SIZE_PX = 128

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """One training photo, as data: addresses. trained: as an epoch saw it, None for a probe, which augments nothing."""

    name: str
    judged: str
    trained: str | None


@dataclass(frozen=True, eq=False)
class Augmented:
    """One photo of a batch.

    position  in the data
    judged    (h, w, 3), as a network is judged on it
    trained   (S, S, 3), augmented and mixed; None for a probe, which augments nothing
    mask      (S, S) class numbers of `trained`, None without masks
    mixture   (B,), the shares of the batch's photos in `trained`, in their order
    """

    position: int
    judged: Pixels
    trained: Pixels | None
    mask: Pixels | None
    mixture: NDArray[np.float32]


def seen_photos(run: Run, trial: Trial, data: RunData) -> list[Seen]:
    """Return a few training photos as the trial saw them, in one batch, with its mixing.

    The draws are not those of the trial's own epochs, but of the same distribution. Raises RunError if no photo can be
    read.
    """
    config = parse_config(trial.config, f"trial {trial.trial_id}")
    told = run.search["data"]
    others = {*map(str, told.get("val", ())), *map(str, told.get("test", ()))}
    training = [position for position, name in enumerate(data.dataset.names) if str(name) not in others]
    merge = merge_of(config, value_at(run.search, "data.classes"))
    return [
        Seen(
            str(data.dataset.names[one.position]),
            thumbnail(one.judged, SIZE_PX),
            None if one.trained is None else thumbnail(one.trained, SIZE_PX),
        )
        for one in augmented(config, data.dataset, training, merge)
    ]


def merge_of(config: TrialConfig, classes: Sequence[str]) -> Merge | None:
    """Return how a segmenter merges the data's classes, None for a classifier."""
    return merge_classes(classes, config.merge) if task_kind(config.task).pixels else None


def augmented(
    config: TrialConfig, photos: Dataset, training: Sequence[int], merge: Merge | None, count: int = NUM_SHOWN
) -> list[Augmented]:
    """Return a batch of photos as training sees them.

        training  positions of the photos to choose from
        merge     of the masks' classes, None without masks
        count     photos, fewer where some cannot be read

    The same photos and draws come each time. Raises RunError if no photo can be read.
    """
    transform = train_transform(config, background=None if merge is None else merge.background)
    transform.set_random_seed(0)  # a page made twice shows the same
    own = eval_transform(config)
    found: list[tuple[int, Pixels, Pixels, Pixels | None]] = []
    # Evenly spread in an order without meaning.
    for number in np.random.default_rng(0).permutation(len(training))[:MOST_TRIED]:
        if len(found) == count:
            break
        position = int(training[int(number)])
        try:
            whole = np.asarray(photos.reader(position))
            image = shrunk(whole, cached_short_side(config))  # as decoded images are kept
            given = {"image": image, **_mask(photos.mask_reader, merge, position, image)}
            done = transform(**given)
            found.append((position, own(image=whole)["image"], done["image"], done.get("mask")))
        except IMAGE_ERRORS:
            continue
    if not found:
        raise RunError("none of the training photos can be read.")
    mixed, mixture = _mixed(config, [one[2] for one in found])
    probe = config.optimizer.name == "lbfgs"
    return [
        Augmented(position, judged, None if probe else image, mask, shares)
        for (position, judged, _, mask), image, shares in zip(found, mixed, mixture, strict=True)
    ]


def _mask(
    reader: Callable[[int], NDArray[np.generic]] | None, merge: Merge | None, position: int, image: Pixels
) -> dict[str, Pixels]:
    """Return the mask that goes through the augmentation with its photo, if there is one."""
    if reader is None or merge is None:
        return {}
    mask = np.asarray(reader(position), np.uint8)
    size = (image.shape[1], image.shape[0])
    return {"mask": merge.table[cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)]}


def _mixed(config: TrialConfig, images: Sequence[Pixels]) -> tuple[Pixels, NDArray[np.float32]]:
    """Return a batch (B, H, W, C) with its images mixed, as the configuration mixes batches, and the shares (B, B)."""
    inputs = to_tensor(images).permute(0, 3, 1, 2).float()
    with _own_draws():
        mixed, mixture = mix_batch(config.augment.mix, inputs, torch.eye(len(images)))
    pixels: Pixels = mixed.permute(0, 2, 3, 1).numpy()
    return pixels.round().clip(0, 255).astype(np.uint8) if config.model.bands is None else pixels, mixture.numpy()


@contextmanager
def _own_draws() -> Iterator[None]:
    """Seed NumPy's global generator, which mixing draws from, and leave it as it was."""
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)
