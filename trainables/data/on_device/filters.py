"""Blurs of images on the device, each with a kernel of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

MOST_VALUES = 2**27  # of the windows of a median, that are held at once


def blur(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Convolve (N, H, W, C) uint8 with kernels (N, size x size). The border is mirrored, as in OpenCV."""
    planes = bordered(images, size // 2, mirrored=True).permute(3, 0, 1, 2).float()  # (C, N, h, w)
    # cuDNN would time its algorithms again for every N, and multiply in TF32.
    with torch.backends.cudnn.flags(enabled=False):
        blurred = F.conv2d(planes, values.view(-1, 1, size, size), groups=len(images))
    return blurred.round().clamp(0, 255).to(images.dtype).permute(1, 2, 3, 0).contiguous()


def median(images: Tensor, values: Tensor, size: int) -> Tensor:
    """Return the median of each size x size window of (N, H, W, C) uint8. The border is repeated, as in OpenCV."""
    wide = bordered(images, size // 2, mirrored=False)
    at_once = max(1, MOST_VALUES // (images[0].numel() * size * size))
    done = []
    for some in torch.split(wide, at_once):
        windows = some.unfold(1, size, 1).unfold(2, size, 1)  # (n, H, W, C, size, size)
        done.append(windows.flatten(4).median(4).values)
    return torch.cat(done)


def bordered(images: Tensor, by: int, *, mirrored: bool) -> Tensor:
    """Return (N, H, W, C) with `by` more pixels on each side, mirrored about the outermost ones or equal to them."""
    for axis in (1, 2):
        length = images.shape[axis]
        places = torch.arange(-by, length + by, device=images.device)
        if mirrored:  # also where the border is wider than the image
            places = places.abs() % max(1, 2 * (length - 1))
            places = torch.minimum(places, 2 * (length - 1) - places)
        images = images.index_select(axis, places.clamp(0, length - 1))
    return images
