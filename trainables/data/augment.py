"""Build albumentations pipelines from a configuration, and mix whole batches.

Images go in as (H, W, 3) uint8 of any size and come out as (S, S, 3) uint8. Masks (H, W) go along, always by the
nearest pixel. What is added to an image is VOID in its mask. Pixels are normalised later, per batch on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from timm.data import Mixup
from torch import Tensor

from trainables.config import augment as parts
from trainables.config.augment import AUGMENTATIONS
from trainables.config.bands import RGB_ONLY
from trainables.config.trial import TrialConfig
from trainables.data.dataset import VOID
from trainables.data.steps import A, FitShortSide, ForegroundCrop, ImagePolicy, Pipeline, ShrinkLarge
from trainables.data.view import View
from visionsweep.core.tasks import task_kind


def train_transform(config: TrialConfig, background: int | None = None) -> A.Compose:
    """Return the training pipeline: `transform(image=...)["image"]` is the augmented image.

    With `mask=`, ["mask"] is the mask after the same steps. `transform.set_random_seed(seed)` makes the draws
    repeatable. `background`: that class's number, for crops that look for foreground.
    """
    crops, rest = training_steps(config, background)
    return Pipeline([*crops, *(step for _, step in rest)])


def training_steps(config: TrialConfig, background: int | None = None) -> tuple[list[Any], list[tuple[str, Any]]]:
    """Return the steps that end at the final size, and those after them, each with the field that it is of.

    The latter have images of one size. So a device can do them in batches (`on_device`).
    """
    # Twice the final size is enough for a crop of a quarter of the area. It bounds the work on large photos.
    steps = [ShrinkLarge(2 * config.image_size)]
    if task_kind(config.task).pixels and config.fit_image == "crop":
        steps = [A.SmallestMaxSize(seen_short_side(config), area_for_downscale="image")]  # what evaluation sees
    rest = list[tuple[str, Any]]()
    cropped = False
    for field, augmentation in AUGMENTATIONS.items():
        part = getattr(config.augment, field, None)
        if config.model.bands is not None and field in RGB_ONLY:
            continue
        if part is not None and augmentation.function is not None:
            step = augmentation.load()(part, config.image_size)
            if cropped:
                rest.append((field, step))
            else:
                steps.append(step)
        elif field == "random_resized_crop":  # whatever is drawn, the geometric part ends at the final size
            steps += _final_crop(config, background)
        cropped = cropped or field == "random_resized_crop"
    return steps, rest


@dataclass(frozen=True)
class EvalTransform:
    """Evaluation transform: `transform(image=...)["image"]` is the image as the network is judged on it.

    Nothing is random. Masks are judged at their own size and are not transformed.
    """

    view: View

    def __call__(self, image: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.uint8]]:
        return {"image": self.view.apply(image)}


def eval_transform(config: TrialConfig) -> EvalTransform:
    """Return the transform that a configuration's network is judged with.

    Classifiers see the centre crop of the resized image, segmenters the whole image at the network's size. With
    `fit_image="squash"` both see all of it, squashed. A cached image gives the same pixels as the original.
    """
    return EvalTransform(View.of(config))


def cached_short_side(config: TrialConfig) -> int:
    """Return the shorter side, in pixels, of the decoded images to train on.

    For classifiers it is larger than the network's input, as evaluation cuts off the borders of the image.
    """
    if task_kind(config.task).pixels:
        return config.image_size if config.fit_image == "squash" else seen_short_side(config)
    return round(config.image_size / config.eval_crop)


def seen_short_side(config: TrialConfig) -> int:
    """The shorter side, in pixels, of the images that a segmenter sees before they are cropped."""
    return config.short_side or config.image_size


def mix_batch(mix: parts.MixUp | parts.CutMix | None, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mix every image of the batch with the one at the mirrored position.

    The last image of an odd batch stays as it is. images (B, 3, H, W) float, targets (B, K) float of any task. Draws
    from NumPy's global generator, as timm does.
    """
    even = len(images) // 2 * 2
    if mix is None or even == 0:
        return images, targets
    alphas = {"cutmix_alpha" if isinstance(mix, parts.CutMix) else "mixup_alpha": mix.alpha}
    # timm mixes class numbers only. Told that every image is a class of its own, it returns the matrix of the mixture.
    mixup = Mixup(**({"mixup_alpha": 0.0} | alphas), prob=mix.p, label_smoothing=0.0, num_classes=even)
    mixed, mixture = mixup(images[:even].clone(), torch.arange(even, device=images.device))  # (even, even)
    mixed_targets = mixture.to(targets.dtype) @ targets[:even]
    return torch.cat([mixed, images[even:]]), torch.cat([mixed_targets, targets[even:]])


def _final_crop(config: TrialConfig, background: int | None) -> list[Any]:
    """Return the steps that bring an image of any size to the size of the batch."""
    if not task_kind(config.task).pixels or config.fit_image == "squash":
        return _fit(config)
    size = config.image_size
    foreground = config.augment.foreground_crop
    pad = A.PadIfNeeded(size, size, position="random", fill_mask=VOID)
    if foreground is None:
        return [pad, A.RandomCrop(size, size)]
    return [pad, ForegroundCrop(size, foreground.min_share, background, foreground.p)]


def _fit(config: TrialConfig) -> list[Any]:
    size = config.image_size
    if config.fit_image == "squash":
        return [A.Resize(size, size)]
    return [FitShortSide(round(size / config.eval_crop)), A.RandomCrop(size, size)]


def rescale(part: parts.Rescale, image_size: int) -> A.Affine:
    # Balanced: as often out as in. A plain draw from 0.5 to 2 would zoom in twice as often.
    return A.Affine(
        scale=(part.low, part.high), keep_ratio=True, balanced_scale=part.low < 1 < part.high, fill_mask=VOID, p=part.p
    )


def crop_and_pad(part: parts.CropAndPad, image_size: int) -> A.CropAndPad:
    return A.CropAndPad(
        percent=(-part.fraction, part.fraction), keep_size=False, fill_mask=VOID, p=part.p
    )  # resized once, at the end


def rotate(part: parts.Rotate, image_size: int) -> A.Rotate:
    # Reflected corners: black wedges would tell the network that an image was rotated.
    return A.Rotate(limit=part.degrees, border_mode=cv2.BORDER_REFLECT_101, p=part.p)


def random_resized_crop(part: parts.RandomResizedCrop, image_size: int) -> A.RandomResizedCrop:
    return A.RandomResizedCrop((image_size, image_size), scale=(part.scale_min, part.scale_max))


def horizontal_flip(part: parts.Flip, image_size: int) -> A.HorizontalFlip:
    return A.HorizontalFlip(p=part.p)


def tone(part: parts.Tone, image_size: int) -> A.OneOf:
    strength = part.strength
    return A.OneOf(
        [
            A.RandomGamma((100 * 0.6**strength, 100 * 1.2**strength), p=1),  # a ratio: strength is its exponent
            A.HueSaturationValue(10 * strength, 20 * strength, 0, p=1),
            A.RandomBrightnessContrast(0.2 * strength, 0.2 * strength, p=1),
        ],
        p=part.p,
    )


def color_jitter(part: parts.ColorJitter, image_size: int) -> A.ColorJitter:
    strength = part.strength
    return A.ColorJitter(brightness=strength, contrast=strength, saturation=strength, hue=strength, p=part.p)


def blur(part: parts.Blur, image_size: int) -> A.GaussianBlur | A.OneOf:
    limit = part.limit_px - (part.limit_px + 1) % 2  # kernels have a middle: the largest odd one allowed
    # Without a sigma, the one that OpenCV takes for a kernel of this size.
    sigmas = (1e-6, part.sigma_max) if part.sigma_max else (0.5, 0.3 * ((limit - 1) / 2 - 1) + 0.8)
    gaussian = A.GaussianBlur((3, limit), sigmas, p=part.p if part.kind == "gaussian" else 1)
    if part.kind == "gaussian":
        return gaussian
    return A.OneOf([gaussian, A.MotionBlur((3, limit), p=1), A.MedianBlur((3, limit), p=1)], p=part.p)


def policy(part: parts.AutoAugment | parts.RandAugment, image_size: int) -> ImagePolicy:
    return ImagePolicy(part)


def coarse_dropout(part: parts.CoarseDropout, image_size: int) -> A.CoarseDropout:
    side = min(part.hole_px, image_size)
    return A.CoarseDropout((1, part.num_holes), (side, side), (side, side), fill=0, p=part.p)
