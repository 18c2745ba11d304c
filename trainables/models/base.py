"""The parts that classifiers and segmenters share: a backbone, its colours, and its frozen modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from trainables.models.backbones import Colour, pixel_colours
from trainables.models.folding import Folding, may_fold
from trainables.models.watching import outputs_of


class BackboneModel(nn.Module):
    """A backbone for images (B, 3, H, W) that are normalised with `mean` and `std`.

    pixel_mean, pixel_std  mean and std for pixels in [0, 255], (3, 1, 1) on the model's device
    frozen                 modules that stay in evaluation mode, as batch norm would go on collecting statistics
    stages                 names of the backbone's modules that end its four stages, empty if it has no stages
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        mean: Colour,
        std: Colour,
        frozen: Sequence[nn.Module] = (),
        stages: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean = mean
        self.std = std
        self.stages = tuple(stages)
        # Not persistent: they belong to the backbone's name, and stored weights stay what they were.
        pixel_mean, pixel_std = pixel_colours(mean, std)
        self.register_buffer("pixel_mean", pixel_mean, persistent=False)
        self.register_buffer("pixel_std", pixel_std, persistent=False)
        self._frozen = list(frozen)
        self._rests = False
        self.folding = Folding()
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.backbone.modules() if self._rests else self._frozen:
            module.training = False
        return self

    def let_rest(self, rests: bool) -> bool:
        """Freeze the backbone while what follows it trains (`rests`), or train it. Return whether that changed."""
        if rests == self._rests:
            return False
        self._rests = rests
        self.train(self.training)
        return True

    def run_backbone(self, images: Tensor) -> Any:
        """Run the backbone on images (B, 3, H, W), without a graph if all of it is frozen."""
        return self.run_watched(images, ())[0]

    def run_watched(self, images: Tensor, names: Sequence[str], *, fold: bool = True) -> tuple[Any, list[Tensor]]:
        """Run the backbone likewise. Return its output, and those of its modules with these names.

        fold: whether a folded copy may run instead, whose values differ by rounding
        """
        frozen_whole = self.training and not self.backbone.training
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen_whole):
            backbone = self.backbone
            if fold and not backbone.training and may_fold(images):
                backbone = self.folding.of(backbone, images.shape[1])
            with outputs_of(backbone, names) as outputs:
                return backbone(images), outputs
