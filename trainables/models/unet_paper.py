"""U-Net as in its paper (Ronneberger et al. 2015, arXiv:1505.04597, Figure 1), with batch norm and padding."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

from trainables.config.architecture import UNetPaper
from trainables.models.network import Network
from trainables.models.pyramids import Source, pretrained

WIDTHS = (64, 128, 256, 512, 1024)


class Contracting(nn.Module):
    """The contracting path: images (B, 3, H, W) to five maps, (B, 64, H, W) to (B, 1024, H/16, W/16)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_double_convolution(before, after) for before, after in pairwise((3, *WIDTHS)))

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [self.blocks[0](images)]
        for block in self.blocks[1:]:
            maps.append(block(F.max_pool2d(maps[-1], kernel_size=2)))
        return maps


class Expansive(nn.Module):
    """The expansive path: each step doubles the size, halves the channels, and adds the map of that size."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        steps = list(pairwise(WIDTHS[::-1]))  # (1024, 512), ..., (128, 64)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(before, after, 2, stride=2) for before, after in steps)
        self.blocks = nn.ModuleList(_double_convolution(before, after) for before, after in steps)
        self.classifier = nn.Conv2d(WIDTHS[0], num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[-1]
        for up, block, skip in zip(self.ups, self.blocks, maps[-2::-1], strict=True):
            x = block(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.classifier(x)
        return logits


def unet_paper(config: UNetPaper, source: Source, num_classes: int) -> Network:
    """U-Net with batch norm, as in report UCSD, Table 3.

    The paper itself has none, and trained with batches of one image.
    """
    return Network(pretrained(Contracting(), source, stages=()), Expansive(num_classes), stride=2 ** (len(WIDTHS) - 1))


def _double_convolution(before: int, after: int) -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [
            nn.Conv2d(channels, after, kernel_size=3, padding=1, bias=False),  # batch norm brings the bias
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
