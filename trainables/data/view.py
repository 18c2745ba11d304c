"""Bring an image to the size at which a network is judged: one resize, from the decoded original.

A search, `evaluate`, `predict`, the graphs and the model card all use `View.apply`, so a model sees the same pixels
everywhere. A cache keeps the result of `View.shrink`, and `apply(shrink(image))` equals `apply(image)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from trainables.config.trial import TrialConfig
from visionsweep.core.errors import DataError
from visionsweep.core.tasks import task_kind

Pixels = npt.NDArray[np.uint8]  # or of uint16 or float32, with other channels than three (`bands.py`)

# An image longer than this many times its other side is cut to its middle before it is enlarged. The crop that is
# judged shows the middle anyway, and 8,000 x 1 pixels would become 2,048,000 x 256.
MOST_ASPECT = 16
# A segmenter is shown the whole image, so nothing can be cut: beyond this it is refused.
MOST_ASPECT_WITH_MASK = 100


@dataclass(frozen=True)
class View:
    """The size at which a network is judged on an image.

    side    pixels: both sides of a squashed image, else the shorter one
    squash  whether the image is resized to a square
    crop    side of the central square that is cut out, None keeps the whole image
    """

    side: int
    squash: bool = False
    crop: int | None = None

    @classmethod
    def of(cls, config: TrialConfig) -> View:
        """The view of a configuration's network at evaluation."""
        if task_kind(config.task).pixels:
            return cls.of_segmenter(config.image_size, config.fit_image, config.short_side)
        return cls.of_classifier(config.image_size, config.fit_image, config.eval_crop)

    @classmethod
    def of_classifier(cls, image_size: int, fit_image: str, eval_crop: float) -> View:
        """The central crop, or with `squash` all of the image."""
        if fit_image == "squash":
            return cls(image_size, squash=True)
        return cls(round(image_size / eval_crop), crop=image_size)

    @classmethod
    def of_segmenter(cls, image_size: int, fit_image: str, short_side: int | None) -> View:
        """Return the view of the whole image. With a `short_side`, `image_size` is the side of training crops."""
        return cls(image_size, squash=True) if fit_image == "squash" else cls(short_side or image_size)

    @property
    def key(self) -> str:
        """Return the key of the cached images. Views that differ only in their crop share it."""
        return f"{self.side}x{self.side}" if self.squash else str(self.side)

    def shrink(self, image: Pixels) -> Pixels:
        """Shrink (H, W, 3) to what a cache keeps: (h, w, 3), never more pixels. A small image stays as it is."""
        if not self.squash:
            return shrunk(image, self.side)
        return _resized(image, (self.side, self.side)) if min(image.shape[:2]) >= self.side else image

    def apply(self, image: Pixels) -> Pixels:
        """Bring (H, W, 3) of any size, or a result of `shrink`, to (h, w, 3) as the network sees it."""
        if self.squash:
            return _resized(image, (self.side, self.side))
        image = shrunk(image, self.side)
        if min(image.shape[:2]) < self.side:
            image = image if self.crop is None else _middle(image)
            image = _resized(image, _at_short_side(image, self.side))
        return image if self.crop is None else _central(image, (self.crop, self.crop))


def shrunk(image: Pixels, short_side_px: int) -> Pixels:
    """Shrink (H, W, 3) to a shorter side of at most `short_side_px`, with the aspect ratio kept."""
    if min(image.shape[:2]) <= short_side_px:
        return image
    return _resized(image, _at_short_side(image, short_side_px))


def check_aspect(shape: Sequence[int], name: str) -> None:
    """Raise DataError for an image (H, W, ...) that is too long to be segmented as a whole."""
    height, width = shape[:2]
    if max(height, width) > MOST_ASPECT_WITH_MASK * min(height, width):
        raise DataError(
            f"image '{name}' is {width} x {height} pixels, and a segmenter takes images up to "
            f"{MOST_ASPECT_WITH_MASK} times as long as wide"
        )


def _at_short_side(image: Pixels, short_side_px: int) -> tuple[int, int]:
    """Return (height, width) with `short_side_px` as the shorter one."""
    height, width = image.shape[:2]
    scale = short_side_px / min(height, width)
    return max(short_side_px, round(height * scale)), max(short_side_px, round(width * scale))


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize to (height, width, C): first the sides that shrink, then those that grow."""
    small = (min(image.shape[0], size[0]), min(image.shape[1], size[1]))
    # Area averages over all source pixels, so fine patterns do not turn into moire.
    for (height, width), how in ((small, cv2.INTER_AREA), (size, cv2.INTER_LINEAR)):
        if image.shape[:2] != (height, width):
            image = _scaled(image, (width, height), how)
    return image


def _scaled(image: Pixels, size: tuple[int, int], how: int) -> Pixels:
    """Resize to (width, height). OpenCV takes four channels at a time, and drops the axis of a single one."""
    parts = [image[:, :, first : first + 4] for first in range(0, image.shape[2], 4)]
    done = [np.asarray(cv2.resize(part, size, interpolation=how), image.dtype) for part in parts]
    if len(done) == 1:
        return done[0].reshape(size[1], size[0], -1)
    return np.concatenate([part.reshape(size[1], size[0], -1) for part in done], axis=2)


def _middle(image: Pixels) -> Pixels:
    """Return the middle of an image longer than MOST_ASPECT times its other side. Any other stays whole."""
    longest = MOST_ASPECT * min(image.shape[:2])
    return _central(image, (min(image.shape[0], longest), min(image.shape[1], longest)))


def _central(image: Pixels, size: tuple[int, int]) -> Pixels:
    top, left = ((have - wanted) // 2 for have, wanted in zip(image.shape[:2], size, strict=True))
    # A copy: a part that refers to the whole would keep it in memory.
    return np.array(image[top : top + size[0], left : left + size[1]])
