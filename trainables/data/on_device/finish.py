"""The device's side of an augmentation: do to a batch what was drawn for it."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.data.on_device.kernels import KERNELS
from trainables.data.on_device.ops import Group, UndoneBatch

MOVES_MASKS = ("flip",)  # kinds that move pixels of segmentation. Policies are for classification


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
    done = KERNELS[group.kind](images.index_select(0, places), values, group.size)
    return images.index_copy(0, places, done)
