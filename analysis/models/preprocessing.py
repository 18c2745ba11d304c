"""Preprocessing of an image for an exported network, for the model card and the graph's metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainables.config.trial import TrialConfig
from trainables.data.augment import cached_short_side, seen_short_side
from visionsweep.core.tasks import task_kind
from visionsweep.core.words import counted

RESIZED = "bilinear; by averaging over areas where it shrinks"


def preprocessing(config: TrialConfig, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Return the steps as plain values. mean, std: of pixels in [0, 1], which graphs apply themselves.

    Of channels as the files have them, mean and std are in the files' unit.
    """
    size = config.image_size
    if config.fit_image == "squash":
        resize: dict[str, Any] = {"height": size, "width": size}
    elif task_kind(config.task).pixels:
        resize = {"shorter_side": seen_short_side(config)}
    else:
        resize = {"shorter_side": cached_short_side(config), "centre_crop": size}
    bands = config.model.bands
    if bands is not None:
        kept = f"{counted(bands.channels, 'channel')} of {bands.dtype}, as the file has them"
        own = {"mean": [*bands.mean], "std": [*bands.std]}
        return {"channels": kept, "resize": resize, "interpolation": RESIZED, **own}
    return {"colours": "RGB, 0 to 255", "resize": resize, "interpolation": RESIZED, "mean": [*mean], "std": [*std]}


def in_steps(values: Mapping[str, Any]) -> list[str]:
    """Return the steps as sentences, in order."""
    resize = values["resize"]
    if "height" in resize:
        size = f"Resize to {resize['height']} x {resize['width']} pixels, whatever the aspect ratio"
    elif "centre_crop" in resize:
        crop = resize["centre_crop"]
        size = f"Resize the shorter side to {resize['shorter_side']} pixels and cut out the central {crop} x {crop}"
    else:
        size = f"Resize the shorter side to {resize['shorter_side']} pixels and keep the whole image"
    mean, std = (", ".join(f"{value:g}" for value in values[name]) for name in ("mean", "std"))
    normalised = f"ubtract the mean ({mean}), divide by the deviation ({std})"
    if "channels" in values:
        return [f"Decode {values['channels']}", f"{size} ({values['interpolation']})", f"S{normalised}"]
    return [
        "Decode as RGB, 8 bits a channel, turned as its EXIF orientation says",
        f"{size} ({values['interpolation']})",
        f"Divide by 255, s{normalised}",
    ]
