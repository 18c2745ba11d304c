"""Upsampling by transposed convolutions, each followed by ReLU and then batch norm, with room for a skip between."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

WIDTHS = (512, 512, 256, 128, 64, 32)  # channels before and after each of five doublings


def doublings() -> nn.ModuleList:
    """Five layers that double the size of a map: (B, 512, H/32, W/32) to (B, 32, H, W)."""
    return nn.ModuleList(Double(before, after) for before, after in pairwise(WIDTHS))


class Double(nn.Sequential):
    """Double a map: (B, before, h, w) to (B, after, 2h, 2w).

    `skip`, a map of the output's shape, is added before the batch norm.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(before, after, kernel_size=3, stride=2, padding=1, output_padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(after),
        )

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        convolution, relu, norm = self
        doubled = relu(convolution(x))
        out: Tensor = norm(doubled if skip is None else doubled + skip)
        return out
