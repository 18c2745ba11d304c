"""The steps of a pipeline that albumentations lacks. `A` is albumentations, imported so that it asks no network."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, RandAugment

from trainables.config import augment as parts
from trainables.data.dataset import VOID
from trainables.data.view import MOST_ASPECT

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import asks the network for a newer version otherwise
import albumentations as A  # noqa: N812 (its own convention)

__all__ = ["A", "FitShortSide", "ForegroundCrop", "ImagePolicy", "Pipeline", "ShrinkLarge"]

MOST_PLACES = 10  # that a crop with too little foreground is drawn again


class Pipeline(A.Compose):  # type: ignore[misc]
    """A.Compose whose steps share one random stream, and sample masks at the positions of image pixels.

    With a seed, A.Compose gives every step an equally seeded stream of its own. Then either all steps or none apply to
    the first image.
    """

    def __init__(self, steps: Sequence[Any]) -> None:
        # OpenCV's older INTER_NEAREST takes a pixel's corner, not its centre: masks would lie beside their images.
        super().__init__(steps, mask_interpolation=cv2.INTER_NEAREST_EXACT)
        for step in steps:
            if isinstance(step, (A.Affine, A.Rotate)):
                # A warp knows the older rule only, and goes by the image's own coordinates there.
                step.mask_interpolation = cv2.INTER_NEAREST

    def set_random_seed(self, seed: int | None) -> None:
        self.seed = seed
        self.set_random_state(np.random.default_rng(seed), random.Random(seed))


class ShrinkLarge(A.SmallestMaxSize):  # type: ignore[misc]
    """Shrink an image whose shorter side is above `max_size` to it. Smaller images stay as they are."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"scale": min(1.0, self.max_size / min(params["shape"][:2]))}

    def apply(self, img: np.ndarray, scale: float, **params: Any) -> np.ndarray:
        # Averaging over areas costs several times as much, and is seen only where more than two pixels become one.
        self.area_for_downscale = "image" if scale < 0.5 else None
        shrunk: np.ndarray = super().apply(img, scale, **params)
        return shrunk


class FitShortSide(A.SmallestMaxSize):  # type: ignore[misc]
    """Bring the shorter side to `max_size`.

    An image longer than MOST_ASPECT times its other side is first cut to a random window. A square crop follows anyway,
    and the whole enlarged image might not fit into memory.
    """

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        longest = MOST_ASPECT * min(height, width)
        top, left = (self.py_random.randint(0, side - longest) if side > longest else 0 for side in (height, width))
        window = (slice(top, top + longest), slice(left, left + longest))
        return {**super().get_params_dependent_on_data(params, data), "window": window}

    def apply(self, img: np.ndarray, scale: float, window: tuple[slice, slice], **params: Any) -> np.ndarray:
        fitted: np.ndarray = super().apply(img[window], scale, **params)
        return fitted

    def apply_to_mask(self, mask: np.ndarray, scale: float, window: tuple[slice, slice], **params: Any) -> np.ndarray:
        fitted: np.ndarray = super().apply_to_mask(mask[window], scale, **params)
        return fitted


class ImagePolicy(A.ImageOnlyTransform):  # type: ignore[misc]
    """torchvision's AutoAugment (Cubuk et al. 2019, arXiv:1805.09501) or RandAugment (2020, arXiv:1909.13719)."""

    def __init__(self, part: parts.AutoAugment | parts.RandAugment) -> None:
        super().__init__(p=1)
        self.policy = (
            AutoAugment(AutoAugmentPolicy(part.policy))
            if isinstance(part, parts.AutoAugment)
            else RandAugment(part.num_ops, part.magnitude)
        )

    def get_params(self) -> dict[str, Any]:
        return {"seed": self.py_random.getrandbits(63)}

    def apply(self, img: np.ndarray, seed: int, **params: Any) -> np.ndarray:
        # torchvision draws from torch's global generator, which is lent for this image and given back. Its operations
        # are three times as fast on a PIL image as on a tensor.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return np.asarray(self.policy(Image.fromarray(img)))


class ForegroundCrop(A.RandomCrop):  # type: ignore[misc]
    """A random crop of which at least `min_share` is foreground, else the best of ten tries.

    Foreground is everything but void and the class `background` (None: only void is left out). Most plain crops of
    photos with small objects would show none of them.
    """

    def __init__(self, size: int, min_share: float, background: int | None, p: float) -> None:
        super().__init__(size, size, p=1.0)
        self.min_share = min_share
        self.background = background
        self.chance = p

    @property
    def targets_as_params(self) -> list[str]:
        return ["mask"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        best: dict[str, Any] = super().get_params_dependent_on_data(params, data)
        if self.py_random.random() >= self.chance:
            return best
        mask = data["mask"]
        foreground = (mask != VOID) & (mask != (VOID if self.background is None else self.background))
        best_share = _share(foreground, best)
        for _ in range(MOST_PLACES - 1):
            if best_share >= self.min_share:
                break
            drawn = super().get_params_dependent_on_data(params, data)
            share = _share(foreground, drawn)
            if share > best_share:
                best = drawn
                best_share = share
        return best


def _share(foreground: np.ndarray, crop: dict[str, Any]) -> float:
    left, top, right, bottom = crop["crop_coords"]
    return float(foreground[top:bottom, left:right].mean())
