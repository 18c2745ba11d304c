"""Several backbones side by side, `a+b`. Each sees the image in its own colours, and their features are joined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.models.backbones import Backbone, Colour, pixel_colours

# A model of several backbones gets plain pixels. So the output of each part equals, to the last bit, its output alone.
PIXELS_MEAN: Colour = (0.0,)  # of each channel
PIXELS_STD: Colour = (1 / 255,)
PART = "parts.{}.backbone"  # name of the module of a part's number


class SideBySide(nn.Module):
    """Backbones side by side: pixels (B, 3, H, W) in [0, 255], float, to features (B, F1 + F2 + ...).

    colours: of each part, (mean, std).
    """

    def __init__(self, parts: Sequence[Backbone]) -> None:
        super().__init__()
        self.colours = [(part.mean, part.std) for part in parts]
        self.parts = nn.ModuleList(_InItsColours(part) for part in parts)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.cat([part(pixels) for part in self.parts], dim=1)

    def backbones(self) -> list[nn.Module]:
        """The parts, each for images in its own colours."""
        return [part.get_submodule("backbone") for part in self.parts]

    def no_weight_decay(self) -> set[str]:
        """The names that timm exempts, of all parts."""
        names = set()
        for number, part in enumerate(self.parts):
            exempt = getattr(part.get_submodule("backbone"), "no_weight_decay", set)
            names |= {f"{PART.format(number)}.{name}" for name in exempt()}
        return names


class _InItsColours(nn.Module):
    """A backbone for plain pixels."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, part: Backbone) -> None:
        super().__init__()
        self.backbone = part.module
        mean, std = pixel_colours(part.mean, part.std)
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.backbone((pixels - self.pixel_mean) / self.pixel_std)
        return features


def side_by_side(parts: Sequence[Backbone]) -> Backbone:
    """The backbones as one, without stages that could be frozen. Their maps are pooled if all of them have some."""
    num_features = sum(part.num_features for part in parts)
    channels = len(parts[0].mean)
    maps = tuple(
        (f"{PART.format(number)}.{name}", width) for number, part in enumerate(parts) for name, width in part.maps
    )
    all_have = all(part.maps for part in parts)
    return Backbone(
        SideBySide(parts), num_features, PIXELS_MEAN * channels, PIXELS_STD * channels, (), maps if all_have else ()
    )
