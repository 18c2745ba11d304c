"""What classifiers and segmenters have in common: a backbone, the colours it was trained on, and what is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from trainables.models.backbones import Colour, pixel_colours
from trainables.models.folding import Folding, may_fold


class BackboneModel(nn.Module):
    """A backbone for images (B, 3, H, W) that are normalised with `mean` and `std`.

    pixel_mean, pixel_std: the same two for pixels in [0, 255], (3, 1, 1) on the model's device.
    frozen: modules that stay in evaluation mode whatever `train` says: batch norm would go on collecting statistics.
    stages: the modules of the backbone, by name, that end its four stages; none where it has no such stages.
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
        self._folding = Folding()
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.backbone.modules() if self._rests else self._frozen:
            module.training = False
        return self

    def let_rest(self, rests: bool) -> bool:
        """Leave the backbone as it is while what follows it trains, or have it train again; whether that is new."""
        if rests == self._rests:
            return False
        self._rests = rests
        self.train(self.training)
        return True

    def run_backbone(self, images: Tensor, *, hooked: bool = False) -> Any:
        """What the backbone makes of images (B, 3, H, W); without a graph where it is frozen as a whole.

        hooked: its own modules have to run, as one of them is listened to.
        """
        frozen_whole = self.training and not self.backbone.training
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen_whole):
            if not self.backbone.training and not hooked and may_fold(images):
                return self._folding.of(self.backbone)(images)
            return self.backbone(images)
