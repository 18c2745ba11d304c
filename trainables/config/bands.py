"""The channels of images that are no RGB of 8 bits: how many, how deep, and what values they have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainables.config.base import Part

DEPTHS = {"uint8": 8, "uint16": 16, "float32": 32}  # bits
# Of `AUGMENTATIONS`: they know RGB of 8 bits only, and other images are trained on without them.
RGB_ONLY = ("tone", "color_jitter", "blur", "policy")

PerChannel = Annotated[tuple[float, ...], Field(min_length=1)]


class Bands(Part):
    """Channels as the files have them (`--channels`).

    dtype      of the pixels
    mean, std  of the training images, one for each channel, in the files' own unit
    """

    dtype: Literal["uint8", "uint16", "float32"]
    mean: PerChannel
    std: PerChannel

    @model_validator(mode="after")
    def _one_for_each(self) -> Bands:
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(
                f"model.bands has {len(self.mean)} means and {len(self.std)} deviations, the least {min(self.std):g}: "
                "it takes one of each for a channel, and deviations above 0"
            )
        return self

    @property
    def channels(self) -> int:
        return len(self.mean)
