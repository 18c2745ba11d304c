"""The augmentations of a configuration, one class each. None is off."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainables.config.base import Fraction, Part, Probability


class RandomResizedCrop(Part):
    scale_min: Fraction = 0.35
    scale_max: Fraction = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> RandomResizedCrop:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min {self.scale_min} must not be above scale_max {self.scale_max}")
        return self


class ForegroundCrop(Part):
    """A crop of image_size with a share of foreground of at least `min_share`.

    Foreground is neither void nor the class `background`. Street scenes and other data may lack a class of that name.
    Then it is every labelled pixel. Up to ten positions are drawn. If none has enough foreground, the best is taken.
    """

    p: Probability = 1.0
    min_share: Fraction = 0.1


class CropAndPad(Part):
    """Cut off or add up to `fraction` of the height and width on each side."""

    p: Probability = 0.5
    fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.1


class Rescale(Part):
    """Zoom by a factor in [low, high] around the centre, with padding where the image is smaller."""

    p: Probability = 1.0
    low: Annotated[float, Field(gt=0, le=1)] = 0.5
    high: Annotated[float, Field(ge=1, le=8)] = 2.0


class Rotate(Part):
    p: Probability = 0.5
    degrees: Annotated[float, Field(gt=0, le=180)] = 10.0


class Flip(Part):
    p: Probability = 0.5


class Tone(Part):
    """One of gamma 60-120, hue 10 and saturation 20, brightness and contrast 0.2. `strength` scales the ranges."""

    p: Probability = 0.5
    strength: Annotated[float, Field(gt=0, le=4)] = 1.0


class ColorJitter(Part):
    """Brightness, contrast, saturation and hue, each by up to `strength`."""

    p: Probability = 1.0
    strength: Annotated[float, Field(gt=0, le=0.5)] = 0.04


class Blur(Part):
    """One of Gaussian, motion and median blur with kernels of up to `limit_px` pixels, or Gaussian alone."""

    p: Probability = 0.5
    limit_px: Annotated[int, Field(ge=3, le=31)] = 5
    kind: Literal["any", "gaussian"] = "any"
    sigma_max: Annotated[float, Field(gt=0, le=10)] | None = None


class CoarseDropout(Part):
    """Up to `num_holes` black squares of `hole_px` pixels."""

    p: Probability = 0.5
    num_holes: Annotated[int, Field(ge=1, le=64)] = 5
    hole_px: Annotated[int, Field(ge=1, le=512)] = 8


class AutoAugment(Part):
    name: Literal["autoaugment"] = "autoaugment"
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"


class RandAugment(Part):
    name: Literal["randaugment"] = "randaugment"
    num_ops: Annotated[int, Field(ge=1, le=8)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class MixUp(Part):
    name: Literal["mixup"] = "mixup"
    p: Probability = 1.0
    alpha: Annotated[float, Field(gt=0, le=10)] = 0.2


class CutMix(Part):
    name: Literal["cutmix"] = "cutmix"
    p: Probability = 1.0
    alpha: Annotated[float, Field(gt=0, le=10)] = 1.0


class AugmentConfig(Part):
    """The pipeline, in the order of application. All steps are off by default."""

    rescale: Rescale | None = None
    crop_and_pad: CropAndPad | None = None
    rotate: Rotate | None = None
    random_resized_crop: RandomResizedCrop | None = None
    foreground_crop: ForegroundCrop | None = None
    horizontal_flip: Flip | None = None
    tone: Tone | None = None
    color_jitter: ColorJitter | None = None
    blur: Blur | None = None
    policy: Annotated[AutoAugment | RandAugment, Field(discriminator="name")] | None = None
    coarse_dropout: CoarseDropout | None = None
    mix: Annotated[MixUp | CutMix, Field(discriminator="name")] | None = None
