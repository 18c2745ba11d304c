"""Photos of the user as a trial saw them: as the network is judged on them, and augmented as it trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.figures.overlays import IMAGE_ERRORS, RunData, thumbnail
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import eval_transform, mix_batch, train_transform
from trainables.data.merge import merge_classes
from trainables.data.view import to_tensor
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


def seen_photos(run: Run, trial: Trial, data: RunData) -> list[Seen]:
    """Return a few training photos as the trial saw them, in one batch, with its mixing.

    The draws are not those of the trial's own epochs, but of the same distribution. Raises RunError if no photo can be
    read.
    """
    config = parse_config(trial.config, f"trial {trial.trial_id}")
    names: list[str] = []
    judged: list[Pixels] = []
    trained: list[Pixels] = []
    transform = train_transform(config, background=_background(run, config))
    transform.set_random_seed(0)  # a report made twice shows the same
    for position in _positions(run, data):
        if len(names) == NUM_SHOWN:
            break
        try:
            image = np.asarray(data.dataset.reader(position))
            own = eval_transform(config)(image=image)["image"]
            augmented = transform(**{"image": image, **_mask(run, data, config, position)})["image"]
        except IMAGE_ERRORS:
            continue
        names.append(str(data.dataset.names[position]))
        judged.append(own)
        trained.append(augmented)
    if not names:
        raise RunError("none of the training photos can be read.")
    probe = config.optimizer.name == "lbfgs"
    mixed: list[Pixels | None] = [None] * len(names) if probe else [*_mixed(config, trained)]
    return [
        Seen(name, thumbnail(one, SIZE_PX), None if other is None else thumbnail(other, SIZE_PX))
        for name, one, other in zip(names, judged, mixed, strict=True)
    ]


def _positions(run: Run, data: RunData) -> list[int]:
    """Return positions of some training photos, evenly spread in an order without meaning."""
    told = run.search["data"]
    others = {*map(str, told.get("val", ())), *map(str, told.get("test", ()))}
    training = [position for position, name in enumerate(data.dataset.names) if str(name) not in others]
    order = np.random.default_rng(0).permutation(len(training))[:MOST_TRIED]
    return [training[int(number)] for number in order]


def _background(run: Run, config: TrialConfig) -> int | None:
    if not task_kind(config.task).pixels:
        return None
    return merge_classes(value_at(run.search, "data.classes"), config.merge).background


def _mask(run: Run, data: RunData, config: TrialConfig, position: int) -> dict[str, Pixels]:
    """Return the mask that goes through the augmentation with its photo, if there is one."""
    if data.dataset.mask_reader is None:
        return {}
    merge = merge_classes(value_at(run.search, "data.classes"), config.merge)
    return {"mask": merge.table[np.asarray(data.dataset.mask_reader(position), np.uint8)]}


def _mixed(config: TrialConfig, images: Sequence[Pixels]) -> Pixels:
    """Return a batch (B, H, W, 3) with its images mixed, as the configuration mixes batches."""
    inputs = to_tensor(images).permute(0, 3, 1, 2).float()
    with _own_draws():
        mixed, _ = mix_batch(config.augment.mix, inputs, torch.zeros(len(images), 1))
    pixels: Pixels = mixed.permute(0, 2, 3, 1).numpy()
    return pixels.round().clip(0, 255).astype(np.uint8) if config.model.bands is None else pixels


@contextmanager
def _own_draws() -> Iterator[None]:
    """Seed NumPy's global generator, which mixing draws from, and leave it as it was."""
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)
