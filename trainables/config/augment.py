"""The augmentations of a configuration, one class each. None is off."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, model_validator

from trainables.config.base import Fraction, Part, Probability
from trainables.config.entries import Entry, ParsedBy


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


# The fields of AugmentConfig, in the order of application. A function of (settings, image size) returns a transform of
# albumentations, or any that moves masks along with their images.
AUGMENTATIONS: dict[str, Entry] = {
    "rescale": Entry(Rescale, "trainables.data.augment:rescale"),
    "crop_and_pad": Entry(CropAndPad, "trainables.data.augment:crop_and_pad"),
    "rotate": Entry(Rotate, "trainables.data.augment:rotate"),
    "random_resized_crop": Entry(RandomResizedCrop, "trainables.data.augment:random_resized_crop"),
    "foreground_crop": Entry(ForegroundCrop, None),  # the last crop of images with masks
    "horizontal_flip": Entry(Flip, "trainables.data.augment:horizontal_flip"),
    "tone": Entry(Tone, "trainables.data.augment:tone"),
    "color_jitter": Entry(ColorJitter, "trainables.data.augment:color_jitter"),
    "blur": Entry(Blur, "trainables.data.augment:blur"),
    "policy": Entry(
        Annotated[AutoAugment | RandAugment, Field(discriminator="name")], "trainables.data.augment:policy"
    ),
    "coarse_dropout": Entry(CoarseDropout, "trainables.data.augment:coarse_dropout"),
    "mix": Entry(Annotated[MixUp | CutMix, Field(discriminator="name")], None),  # of whole batches (`mix_batch`)
}

if TYPE_CHECKING:

    class _Steps(Part):
        """The fields that other code asks for by their names."""

        random_resized_crop: RandomResizedCrop | None = None
        foreground_crop: ForegroundCrop | None = None
        policy: AutoAugment | RandAugment | None = None
        mix: MixUp | CutMix | None = None

else:
    _Steps = create_model(
        "_Steps", __base__=Part, **{name: (one.part | None, None) for name, one in AUGMENTATIONS.items()}
    )


class AugmentConfig(_Steps):
    """The pipeline, in the order of application. All steps are off by default. Its fields are those of the table."""


def _now() -> type[AugmentConfig]:
    added = tuple((name, one.part) for name, one in AUGMENTATIONS.items() if name not in AugmentConfig.model_fields)
    return _with_fields(added)


@lru_cache(maxsize=64)
def _with_fields(added: tuple[tuple[str, Any], ...]) -> type[AugmentConfig]:
    """Return the class with the fields that the table has got since it was made."""
    fields: dict[str, Any] = {name: (part | None, None) for name, part in added}
    return create_model("AugmentConfig", __base__=AugmentConfig, **fields) if fields else AugmentConfig


Augmentations = Annotated[AugmentConfig, ParsedBy(lambda values: _now().model_validate(values), lambda: (_now(),))]
