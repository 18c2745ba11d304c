"""The loader's side of an augmentation on the device: crop an image, and draw what the device does to it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.config.trial import TrialConfig
from trainables.data.augment import training_steps
from trainables.data.on_device.encode import DEVICE_STEPS, SLOTS
from trainables.data.on_device.ops import Undone
from trainables.data.steps import A, Pipeline
from trainables.seeds import derived_seed

Noted = tuple[int, Any, dict[str, Any]]  # slot, step, what the step drew


class DrawnTransform:
    """`transform(image=...)["image"]` is the cropped image with its draws (`ops.Undone`). ["mask"] is cropped too.

    It runs the pipeline of `augment.train_transform`, whose last steps note what they drew instead of doing it. So the
    draws are albumentations' own. Every image is seeded by its batch's seed and its place in the batch. A process that
    makes a part of a batch draws what the whole batch would have there.
    """

    def __init__(self, config: TrialConfig, background: int | None = None) -> None:
        crops, rest = training_steps(config, background)
        self.noted = list[Noted]()
        for number, (_, step) in enumerate(rest):
            for single in single_steps(step):
                single.apply_with_params = partial(_note, self.noted, number * SLOTS, single)
        self.pipeline = Pipeline([*crops, *(step for _, step in rest)])
        self.seed: int | None = None
        self.place = 0

    def set_random_seed(self, seed: int, place: int = 0) -> None:
        """Begin a batch. place: of the next image in it."""
        self.seed = seed
        self.place = place

    def __call__(self, image: npt.NDArray[Any], mask: npt.NDArray[np.uint8] | None = None) -> dict[str, Any]:
        if self.seed is not None:
            self.pipeline.set_random_seed(derived_seed(self.seed, self.place))
            self.place += 1
        self.noted.clear()
        done = self.pipeline(image=image) if mask is None else self.pipeline(image=image, mask=mask)
        ops = [op for slot, step, drawn in self.noted for op in DEVICE_STEPS[type(step)](slot, step, drawn)]
        return {**done, "image": Undone(done["image"], tuple(ops))}


def single_steps(step: Any) -> Iterator[Any]:
    """Yield the steps that a choice of steps chooses from, or the step itself."""
    if isinstance(step, A.BaseCompose):
        for one in step.transforms:
            yield from single_steps(one)
    else:
        yield step


def _note(noted: list[Noted], slot: int, step: Any, params: dict[str, Any], **data: Any) -> dict[str, Any]:
    """Stand in for albumentations' `apply_with_params`: note the draws, and leave the image as it is."""
    noted.append((slot, step, params))
    return data
