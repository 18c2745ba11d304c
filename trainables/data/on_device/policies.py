"""The draws of AutoAugment and RandAugment as operations of the device. They are those of torchvision's own classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision.transforms import AutoAugment, RandAugment
from torchvision.transforms import functional as F  # noqa: N812 (torchvision's own convention)

from trainables.data.on_device.ops import Op

RAMP = Image.fromarray(np.arange(256, dtype=np.uint8)[None, :])
BINS = 10  # of AutoAugment's magnitudes (Cubuk et al. 2019)

Size = tuple[int, int]
Named = tuple[str, float]  # an operation of the policy, and its magnitude


def policy_ops(slot: int, policy: AutoAugment | RandAugment, seed: int, size: Size) -> Iterator[Op]:
    """Yield the operations that a policy draws with a seed for an image of (height, width)."""
    with torch.random.fork_rng(devices=[]):  # as `ImagePolicy`: the global generator is lent
        torch.default_generator.manual_seed(seed)
        drawn = list(_auto(policy, size) if isinstance(policy, AutoAugment) else _rand(policy, size))
    for place, (name, magnitude) in enumerate(drawn):
        if name != "Identity":
            kind, values = OPS[name](magnitude, size)
            yield Op(slot + place, kind, np.asarray(values, np.float32))


def _auto(policy: AutoAugment, size: Size) -> Iterator[Named]:
    number, chances, signs = policy.get_params(len(policy.policies))
    space = _space(policy, BINS, size)
    for place, (name, p, bin_number) in enumerate(policy.policies[number]):
        if chances[place] <= p:
            magnitudes, signed = space[name]
            magnitude = 0.0 if bin_number is None else float(magnitudes[bin_number])
            yield name, -magnitude if signed and signs[place] == 0 else magnitude


def _rand(policy: RandAugment, size: Size) -> Iterator[Named]:
    space = _space(policy, policy.num_magnitude_bins, size)
    for _ in range(policy.num_ops):
        name = list(space)[int(torch.randint(len(space), (1,)))]
        magnitudes, signed = space[name]
        magnitude = float(magnitudes[policy.magnitude]) if magnitudes.ndim else 0.0
        yield name, -magnitude if signed and torch.randint(2, (1,)) else magnitude


def _space(policy: AutoAugment | RandAugment, num_bins: int, size: Size) -> dict[str, Any]:
    """The magnitudes of each operation, and whether their signs are drawn."""
    space: dict[str, Any] = policy._augmentation_space(num_bins, size)
    return space


Values = tuple[str, npt.NDArray[Any] | list[float]]


def _moved(matrix: Callable[[float, Size], list[float]]) -> Callable[[float, Size], Values]:
    """An operation that moves pixels, by the matrix from a pixel of the result to one of the image."""
    return lambda magnitude, size: ("affine", matrix(magnitude, size))


def _rotation(degrees: float, size: Size) -> list[float]:
    cos = math.cos(math.radians(degrees))
    sin = math.sin(math.radians(degrees))
    y, x = size[0] / 2, size[1] / 2
    return [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y]


def _pointwise(change: Callable[[Image.Image, float], Any]) -> Callable[[float, Size], Values]:
    """An operation on single values, as Pillow does it."""
    return lambda magnitude, size: ("table", np.asarray(change(RAMP, magnitude))[0])


def _by_factor(kind: str) -> Callable[[float, Size], Values]:
    return lambda magnitude, size: (kind, [1.0 + magnitude])


def _plain(kind: str) -> Callable[[float, Size], Values]:
    return lambda magnitude, size: (kind, [])


# The names are torchvision's. Magnitudes mean what they mean there.
OPS: dict[str, Callable[[float, Size], Values]] = {
    "ShearX": _moved(lambda shear, _: [1.0, shear, 0.0, 0.0, 1.0, 0.0]),
    "ShearY": _moved(lambda shear, _: [1.0, 0.0, 0.0, shear, 1.0, 0.0]),
    "TranslateX": _moved(lambda pixels, _: [1.0, 0.0, -int(pixels), 0.0, 1.0, 0.0]),
    "TranslateY": _moved(lambda pixels, _: [1.0, 0.0, 0.0, 0.0, 1.0, -int(pixels)]),
    "Rotate": _moved(_rotation),
    "Brightness": _pointwise(lambda ramp, by: F.adjust_brightness(ramp, 1.0 + by)),
    "Posterize": _pointwise(lambda ramp, bits: F.posterize(ramp, int(bits))),
    "Solarize": _pointwise(F.solarize),
    "Invert": _pointwise(lambda ramp, _: F.invert(ramp)),
    "Color": _by_factor("pil_color"),
    "Contrast": _by_factor("pil_contrast"),
    "Sharpness": _by_factor("pil_sharpness"),
    "AutoContrast": _plain("autocontrast"),
    "Equalize": _plain("equalize"),
}
