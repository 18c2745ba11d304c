"""What albumentations drew for an image, as operations of the device.

`DEVICE_STEPS` has every step of a pipeline that has a device version. What a step does to single values is taken from
albumentations itself, as a table of 256 values. So the two paths cannot differ there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data.on_device.ops import Op
from trainables.data.on_device.policies import policy_ops
from trainables.data.steps import A, ImagePolicy

Drawn = dict[str, Any]  # the parameters of albumentations' `apply`, and `shape` (S, S, C)
Encode = Callable[[int, Any, Drawn], Iterator[Op]]

SLOTS = 16  # that one step of a pipeline may fill: ColorJitter has 4, RandAugment up to 8
VALUES = np.arange(256)
RAMP = np.repeat(VALUES.astype(np.uint8)[None, :, None], 3, axis=2)  # (1, 256, 3), all grey
HUES = 180  # of OpenCV: half a degree of an angle does not fit into 8 bits
NOTHING = np.zeros(0, np.float32)


def _flip(slot: int, step: Any, drawn: Drawn) -> Iterator[Op]:
    yield Op(slot, "flip", NOTHING)


def _pointwise(slot: int, step: Any, drawn: Drawn) -> Iterator[Op]:
    """A step that changes each value by a rule of its own, whatever is beside it."""
    yield Op(slot, "table", _table(step.apply(RAMP, **drawn)))


def _hue_and_saturation(slot: int, step: Any, drawn: Drawn) -> Iterator[Op]:
    saturations = np.clip(VALUES + int(drawn["sat_shift"]), 0, 255)  # OpenCV cuts the fraction off
    saturations[0] = 0  # grey stays grey
    if drawn["hue_shift"] or drawn["sat_shift"]:
        yield _hsv(slot, drawn["hue_shift"], saturations)


def _color_jitter(slot: int, step: Any, drawn: Drawn) -> Iterator[Op]:
    """Brightness, contrast, saturation and hue, in an order that is drawn for each image."""
    for place, which in enumerate(drawn["order"]):
        name = ("brightness", "contrast", "saturation", "hue")[which]
        factor = float(drawn[name])
        if factor == (0 if name == "hue" else 1):
            continue
        if name == "brightness":
            yield Op(slot + place, "table", _table(step.transforms[which](RAMP, factor)))
        elif name == "hue":
            yield _hsv(slot + place, HUES * factor, VALUES)
        else:
            yield Op(slot + place, name, np.asarray([factor], np.float32))


def _separable(slot: int, step: Any, drawn: Drawn) -> Iterator[Op]:
    side = drawn["kernel"]
    yield _kernel(slot, np.outer(side, side))


def _convolved(slot: int, step: Any, drawn: Drawn) -> Iterator[Op]:
    yield _kernel(slot, drawn["kernel"])


def _median(slot: int, step: Any, drawn: Drawn) -> Iterator[Op]:
    yield Op(slot, "median", NOTHING, size=int(drawn["kernel"]))


def _holes(slot: int, step: Any, drawn: Drawn) -> Iterator[Op]:
    holes = np.zeros((step.num_holes_range[1], 4), np.float32)  # those that were not drawn are empty
    holes[: len(drawn["holes"])] = drawn["holes"]
    yield Op(slot, "holes", holes.flatten())


def _policy(slot: int, step: Any, drawn: Drawn) -> Iterator[Op]:
    yield from policy_ops(slot, step.policy, drawn["seed"], drawn["shape"][:2])


DEVICE_STEPS: dict[type[Any], Encode] = {
    A.HorizontalFlip: _flip,
    A.RandomGamma: _pointwise,
    A.RandomBrightnessContrast: _pointwise,
    A.HueSaturationValue: _hue_and_saturation,
    A.ColorJitter: _color_jitter,
    A.GaussianBlur: _separable,
    A.MotionBlur: _convolved,
    A.MedianBlur: _median,
    A.CoarseDropout: _holes,
    ImagePolicy: _policy,
}


def _table(ramp: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return ramp[0, :, 0].astype(np.float32)


def _hsv(slot: int, shift: float, saturations: npt.NDArray[Any]) -> Op:
    hues = np.floor(np.mod(VALUES + shift, HUES))
    return Op(slot, "hsv", np.concatenate([hues, saturations]).astype(np.float32))


def _kernel(slot: int, kernel: npt.NDArray[Any]) -> Op:
    return Op(slot, "blur", kernel.astype(np.float32).flatten(), size=len(kernel))
