"""The operations of the device: each takes images and parameters, and returns the images.

images  (N, H, W, C) uint8, those of a batch that drew the operation; `flip` and `holes` take float32 too
values  (N, P) float32, the parameters of each
size    of the group (`ops.Group.size`)

They round as OpenCV and Pillow do, so that the results are those of the CPU's path. No kernel asks the device for a
value.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.data.on_device import filters, policy_kernels

Kernel = Callable[[Tensor, Tensor, int], Tensor]


def flip(images: Tensor, values: Tensor, size: int) -> Tensor:
    return images.flip(2)


def table(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Replace each value by that of its image's table, values (N, 256)."""
    return looked_up(values.to(images.dtype), images)


def looked_up(tables: Tensor, images: Tensor) -> Tensor:
    """Return tables[n, images[n, ...]]. tables (N, 256), images (N, ...) of whole numbers."""
    return tables.gather(1, images.flatten(1).long()).view(images.shape)


def hsv(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Replace hue and saturation by those of two tables, values (N, 512). Hues are 0 to 179, as in OpenCV."""
    red, green, blue = images.to(torch.int32).unbind(3)
    # From RGB, in OpenCV's fixed point of 12 bits.
    value = images.amax(3).to(torch.int32)
    spread = value - images.amin(3).to(torch.int32)
    saturation = (spread * (255 * 4096 / value.clamp(min=1)).round().int() + 2048) >> 12
    along = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = (along * (30 * 4096 / spread.clamp(min=1)).round().int() + 2048) >> 12
    hue = torch.where(hue < 0, hue + 180, hue)
    # Back to RGB, as OpenCV does it: it cuts the fraction off.
    hue = looked_up(values[:, :256], hue) / 30
    saturation = looked_up(values[:, 256:], saturation) / 255
    channels = []
    for number in (5, 3, 1):
        place = (hue + number) % 6
        share = torch.minimum(place, 4 - place).clamp(0, 1)
        channels.append(value - value * saturation * share)
    return torch.stack(channels, 3).clamp(0, 255).to(images.dtype)


def grey(images: Tensor) -> Tensor:
    """Return OpenCV's grey of RGB, (N, H, W) of whole numbers as int32."""
    red, green, blue = images.to(torch.int32).unbind(3)
    return (red * 9798 + green * 19235 + blue * 3735 + 16384) >> 15


def contrast(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Scale around the image's mean grey by a factor, values (N, 1). As albumentations: the fraction is cut off."""
    mean = grey(images).float().mean((1, 2))[:, None, None, None]
    factor = values[:, :, None, None]
    return (images * factor + mean * (1 - factor)).clamp(0, 255).to(images.dtype)


def saturation(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Blend with the grey image by a factor, values (N, 1), and round."""
    factor = values[:, :, None, None]
    blended = images * factor + grey(images)[..., None] * (1 - factor)
    return blended.round().clamp(0, 255).to(images.dtype)


def holes(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Set rectangles to 0. values (N, 4 x holes): the left, upper, right and lower side of each, in pixels."""
    left, top, right, bottom = values.view(len(values), -1, 4, 1).unbind(2)  # (N, holes, 1)
    x = torch.arange(images.shape[2], device=images.device)
    y = torch.arange(images.shape[1], device=images.device)
    across = ((x >= left) & (x < right)).float()  # (N, holes, W)
    down = ((y >= top) & (y < bottom)).float()  # (N, holes, H)
    inside = torch.einsum("nky,nkx->nyx", down, across) > 0
    return images.masked_fill(inside[..., None], 0)


KERNELS: dict[str, Kernel] = {
    "flip": flip,
    "table": table,
    "hsv": hsv,
    "contrast": contrast,
    "saturation": saturation,
    "blur": filters.blur,
    "median": filters.median,
    "holes": holes,
    "affine": policy_kernels.affine,
    "pil_color": policy_kernels.color,
    "pil_contrast": policy_kernels.contrast,
    "pil_sharpness": policy_kernels.sharpness,
    "autocontrast": policy_kernels.autocontrast,
    "equalize": policy_kernels.equalize,
}
