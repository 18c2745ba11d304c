"""What a loader process hands over for an image that is not augmented yet, and how a batch of them travels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.data.tensors import to_tensor


@dataclass(frozen=True)
class Op:
    """One operation on one image.

    slot    its place in the pipeline. An image has at most one operation in a slot
    kind    key of `KERNELS`
    values  its parameters, as many for all operations of one kind and `size`
    size    what fixes the shapes of a kernel's tensors, such as the side of a blur. 0 where nothing does
    """

    slot: int
    kind: str
    values: npt.NDArray[np.float32]
    size: int = 0


@dataclass(frozen=True)
class Undone:
    """An image (S, S, C) at its final size, with the operations that the device still applies to it."""

    pixels: npt.NDArray[Any]
    ops: tuple[Op, ...]


@dataclass(frozen=True)
class Group:
    """The images of a batch that have the same kind of operation in the same slot: `count` rows, `width` values each.

    Counts are known on the host. So the device is never asked how many images an operation is for.
    """

    slot: int
    kind: str
    size: int
    count: int
    width: int


@dataclass(frozen=True)
class UndoneBatch:
    """A batch before its augmentation.

    pixels  (B, S, S, C) uint8, or float32 of images with 16 or 32 bits
    groups  in the order of their slots
    values  (V,) float32, one tensor for all draws: for each group its rows (count), then its parameters (count x width)
    """

    pixels: Tensor
    groups: tuple[Group, ...]
    values: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def pin_memory(self) -> UndoneBatch:
        """Return the batch in pinned memory. torch's DataLoader asks for it where `pin_memory` is set."""
        return UndoneBatch(self.pixels.pin_memory(), self.groups, self.values.pin_memory())

    def to(self, device: torch.device) -> UndoneBatch:
        """Return the batch on a device. From pinned memory nothing waits."""
        return UndoneBatch(
            self.pixels.to(device, non_blocking=True), self.groups, self.values.to(device, non_blocking=True)
        )

    def part(self, start: int, stop: int) -> UndoneBatch:
        """Return images `start` to `stop` of a batch on the host, with the draws that they have in the whole batch."""
        groups = list[Group]()
        kept = [self.values[:0]]
        for group, rows, values in self.split():
            mine = (rows >= start) & (rows < stop)
            count = int(mine.sum())
            if count:
                groups.append(Group(group.slot, group.kind, group.size, count, group.width))
                kept += [rows[mine] - start, values[mine].flatten()]
        return UndoneBatch(self.pixels[start:stop], tuple(groups), torch.cat(kept))

    def split(self) -> list[tuple[Group, Tensor, Tensor]]:
        """Return each group with its rows (count,) float32 and its parameters (count, width)."""
        sizes = [length for group in self.groups for length in (group.count, group.count * group.width)]
        pieces = torch.split(self.values, sizes) if sizes else ()
        return [
            (group, rows, values.view(group.count, group.width))
            for group, rows, values in zip(self.groups, pieces[::2], pieces[1::2], strict=True)
        ]


def collated(images: Sequence[Any]) -> Tensor | UndoneBatch:
    """Stack images of one size, (B, S, S, C), or those of `Undone` with what is still to be done to them."""
    if not isinstance(images[0], Undone):
        return to_tensor(images)
    found: dict[tuple[int, str, int], tuple[list[int], list[npt.NDArray[np.float32]]]] = {}
    for row, image in enumerate(images):
        for op in image.ops:
            rows, values = found.setdefault((op.slot, op.kind, op.size), ([], []))
            rows.append(row)
            values.append(op.values)
    groups = list[Group]()
    pieces = list[npt.NDArray[np.float32]]()
    for (slot, kind, size), (rows, values) in sorted(found.items(), key=lambda item: item[0]):
        groups.append(Group(slot, kind, size, len(rows), len(values[0])))
        pieces += [np.asarray(rows, np.float32), *values]  # float32 is exact for rows below 2**24
    packed = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    return UndoneBatch(to_tensor([image.pixels for image in images]), tuple(groups), torch.from_numpy(packed))
