"""The device's side of an augmentation: do to a batch what was drawn for it."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.data.on_device.kernels import KERNELS
from trainables.data.on_device.ops import Group, UndoneBatch

MOVES_MASKS = ("flip",)  # kinds that move pixels of segmentation. Policies are for classification
# Values of images that an operation is done to at once. A kernel needs up to some fifty bytes for each.
MOST_VALUES = 2**25


@torch.no_grad()
def finished(batch: Tensor | UndoneBatch, targets: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return augmented images (B, S, S, C) on the device, and their targets. A plain tensor is augmented already.

    targets: on the device, (B, K) or masks (B, S, S), which go along. Nothing here waits for the device: how many
    images an operation is for is known on the host.
    """
    if isinstance(batch, Tensor):
        return batch, targets
    batch = batch.to(device)
    images = batch.pixels
    for group, rows, values in batch.split():
        places = rows.long()
        images = _changed(images, group, places, values)
        if targets.ndim == 3 and group.kind in MOVES_MASKS:
            targets = _changed(targets[..., None], group, places, values)[..., 0]
    return images, targets


def _changed(images: Tensor, group: Group, places: Tensor, values: Tensor) -> Tensor:
    at_once = max(1, MOST_VALUES // images[0].numel())
    pieces = zip(torch.split(places, at_once), torch.split(values, at_once), strict=True)
    kernel = KERNELS[group.kind]
    done = [kernel(images.index_select(0, some), drawn, group.size) for some, drawn in pieces]
    return images.index_copy(0, places, torch.cat(done))
