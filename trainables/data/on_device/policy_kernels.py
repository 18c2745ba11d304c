"""The operations of AutoAugment and RandAugment on the device, rounded as Pillow does (see `kernels.py`)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.data.on_device.filters import bordered


def affine(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Take each pixel from where a matrix (N, 6) leads, the nearest one. Outside of the image it is black."""
    num, height, width, channels = images.shape
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)
    # Pillow's fixed point of 16 bits, from the middles of the pixels.
    across, down, left, along, below, top = (values * 65536).round().long()[:, :, None, None].unbind(1)  # (N, 1, 1)
    left, top = (one + (a + b) // 2 for one, a, b in ((left, across, down), (top, along, below)))
    column = (across * x + down * y + left) >> 16  # (N, H, W)
    row = (along * x + below * y + top) >> 16
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    flat = images.reshape(num, height * width, channels)
    moved = flat.gather(1, place.view(num, -1, 1).expand(-1, -1, channels)).view(images.shape)
    return moved.masked_fill(~inside[..., None], 0)


def color(images: Tensor, values: Tensor, size: int) -> Tensor:
    return _blended(_grey(images)[..., None], images, values)


def contrast(images: Tensor, values: Tensor, size: int) -> Tensor:
    mean = (_grey(images).float().mean((1, 2)) + 0.5).floor()
    return _blended(mean[:, None, None, None], images, values)


def sharpness(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Blend with a smoothed image: the weights are 5 in the middle and 1 around it. The border stays as it is."""
    height, width = images.shape[1:3]
    wide = bordered(images, 1, mirrored=False).to(torch.int32)
    total = 4 * images.to(torch.int32)
    for down in range(3):
        for across in range(3):
            total = total + wide[:, down : down + height, across : across + width]
    smooth = (total / 13 + 0.5).floor()
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)
    border = (y == 0) | (y == height - 1) | (x == 0) | (x == width - 1)
    return _blended(torch.where(border[..., None], images, smooth), images, values)


def autocontrast(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Stretch each channel from its darkest value to its brightest one."""
    low = images.amin((1, 2), keepdim=True).float()
    high = images.amax((1, 2), keepdim=True).float()
    # A fraction is a multiple of 1/255 or more. So this much keeps whole numbers whole, and changes no other.
    stretched = ((images - low) * 255 / (high - low).clamp(min=1) + 1e-3).clamp(0, 255).to(images.dtype)
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Make the values of each channel equally frequent."""
    num, height, width, channels = images.shape
    planes = images.permute(0, 3, 1, 2).reshape(num * channels, -1).long()
    counts = torch.zeros(len(planes), 256, dtype=torch.long, device=images.device)
    counts = counts.scatter_add(1, planes, torch.ones_like(planes))
    # Pillow leaves out the most frequent of no value: the brightest that there is.
    brightest = counts.gather(1, planes.amax(1, keepdim=True))
    step = (height * width - brightest) // 255  # (N x C, 1)
    before = counts.cumsum(1) - counts
    tables = ((step // 2 + before) // step.clamp(min=1)).clamp(0, 255)
    tables = torch.where(step > 0, tables, torch.arange(256, device=images.device))
    done = tables.gather(1, planes).to(images.dtype)
    return done.view(num, channels, height, width).permute(0, 2, 3, 1).contiguous()


def _grey(images: Tensor) -> Tensor:
    """Return Pillow's grey of RGB, (N, H, W) int32."""
    red, green, blue = images.to(torch.int32).unbind(3)
    return (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16


def _blended(other: Tensor, images: Tensor, values: Tensor) -> Tensor:
    """Blend, or go beyond the image, by a factor (N, 1). The fraction is cut off."""
    factor = values[:, :, None, None]
    return (other + factor * (images.float() - other)).clamp(0, 255).to(images.dtype)
