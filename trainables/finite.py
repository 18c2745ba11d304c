"""The check that a training's loss is finite, which does not wait for a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

EVERY = 20  # batches between two looks at the loss on a GPU


class FiniteLoss:
    """A look at the loss now and then.

    To read a number off a GPU waits until the GPU has computed all that was asked of it, and then it has nothing to do.
    So the loss is copied while the GPU goes on, and read with a later batch, once it has arrived. On a CPU each batch's
    loss is read at once.

    fail  called with a loss that is not finite, and the optimizer step that it is of. It raises
    """

    def __init__(self, device: torch.device, fail: Callable[[float, int], None]) -> None:
        self.device = device
        self.fail = fail
        self._number = 0
        self._step = 0
        self._host: Tensor | None = None  # pinned
        self._arrived: torch.cuda.Event | None = None  # None while no copy is on its way

    def look(self, loss: Tensor, step: int) -> None:
        """Look at a batch's loss (), or at one of before. step: the optimizer step that it is of."""
        if self.device.type == "cpu":
            self._check(float(loss), step)
        elif self.device.type == "cuda":
            self._look_later(loss, step)
        elif self._number % EVERY == EVERY - 1:
            self._check(float(loss), step)
        self._number += 1

    def _look_later(self, loss: Tensor, step: int) -> None:
        if self._arrived is not None and self._arrived.query():  # type: ignore[no-untyped-call]
            self._arrived = None
            assert self._host is not None
            self._check(float(self._host), self._step)
        if self._arrived is None and self._number % EVERY == 0:
            if self._host is None:
                self._host = torch.empty((), dtype=loss.dtype, pin_memory=True)
            self._host.copy_(loss, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
            self._step = step

    def _check(self, value: float, step: int) -> None:
        if not math.isfinite(value):
            self.fail(value, step)
