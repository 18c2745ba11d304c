"""The moving average of a training's weights, updated only for weights that change."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn


class MeanWeights(ModelEmaV3):  # type: ignore[misc]  # timm has no types
    """timm's exponential moving average, equal to the last bit, which skips tensors that do not change.

    timm's goes through two state dictionaries in every step. That takes longer than a whole step of a head on kept
    features, because the frozen backbone is nearly all of the model. This one looks the tensors up once. Nothing
    replaces them.
    """

    _moving: tuple[list[Tensor], list[Tensor]] | None = None  # of the mean and of the model
    _counted: list[tuple[Tensor, Tensor]] | None = None  # integers, such as batch norm's number of batches

    def look_again(self) -> None:
        """Look the tensors up again. Call it when other parts of the model train than before."""
        self._moving = self._counted = None

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Move the average towards `model`, which must be in training mode, by a share of 1 - decay."""
        if self._moving is None or self._counted is None:
            own = self.module.state_dict()
            others = model.state_dict()
            pairs = [(own[name], others[name]) for name in names_that_move(model) if name in own]
            floats = [pair for pair in pairs if pair[0].is_floating_point()]
            self._moving = [one for one, _ in floats], [other for _, other in floats]
            self._counted = [pair for pair in pairs if not pair[0].is_floating_point()]
        for one, other in self._counted:
            one.copy_(other)
        torch._foreach_lerp_(*self._moving, weight=1 - decay)


def names_that_move(model: nn.Module) -> Iterator[str]:
    """Yield the names of trained parameters, and of buffers of modules in training mode."""
    yield from (name for name, parameter in model.named_parameters() if parameter.requires_grad)
    for prefix, module in model.named_modules():
        if module.training:
            yield from (name for name, _ in module.named_buffers(prefix, recurse=False))
