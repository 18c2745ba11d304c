"""What one of the processes of a training does: its part of each batch, and what it exchanges with the others.

Ranks count from 0. Rank 0 is the trial's own process: it alone judges, stores and reports. The ranks load batches in
turns, and exchange them whole. So order, augmentation and mixing are those of one process, and loading is divided. Each
rank trains on its rows of the batch, and DistributedDataParallel adds up the gradients.

Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (arXiv:2006.15704).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainables.config.trial import TrialConfig
from trainables.data.on_device.finish import finished
from trainables.losses import Loss
from trainables.parallel.left_out import leaves_out
from trainables.parallel.shares import Share, least_images, parts, share_of
from trainables.parallel.synced_norm import sync_norms
from trainables.seeds import derived_seed
from trainables.state import TrainState

CPU = torch.device("cpu")
Batch = tuple[Tensor, Tensor]
Forward = Callable[[Tensor], Any]  # a module, or its compiled form
# The option by which rank 0's buffers would be sent in every forward pass. torch has renamed it.
_OPTIONS = inspect.signature(DistributedDataParallel.__init__).parameters
BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers"


class Link(Protocol):
    """The link between rank 0 and the other processes."""

    def epoch(self, epoch: int) -> int:
        """Rank 0 lets the others begin an epoch, counted from 0. The others wait for that, and return its number."""

    def check(self) -> None:
        """Raise the error of another rank, if one has failed."""


class Alone:
    """A training in one process. Everything is left as it is."""

    size = 1
    leads = True
    own = slice(None)

    def begin_epoch(self, state: TrainState) -> None:
        """Bring the state of rank 0 to the others, before the first epoch that they train."""

    def reseed(self, seed: int) -> None:
        """Give this rank's dropout draws of its own. seed: of the epoch."""

    def shared(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield every batch, of `batches` that have those of this rank (`own`)."""
        return batches

    def wrapped(self, model: Forward, config: TrialConfig, loss: Loss) -> Forward:
        """Return the module whose backward pass adds up the gradients of all ranks."""
        return model

    def take(self, inputs: Tensor, targets: Tensor, ends_step: bool) -> Batch:
        """Return this rank's rows of a batch. ends_step: whether an optimizer step follows."""
        return inputs, targets

    def weighed(self, loss: Tensor) -> Tensor:
        """Return this rank's loss by its share of the batch. Those of all ranks add up to the batch's."""
        return loss

    def summed(self, total: Tensor) -> Tensor:
        """Return the sum over all ranks."""
        return total


@dataclass
class Group:
    """A rank of a training on several devices. Its methods are those of `Alone`."""

    rank: int
    size: int
    device: torch.device
    link: Link
    has_images: bool = True
    _brought: bool = False
    _whole: nn.Module | None = None
    _wrapped: DistributedDataParallel | None = None
    _share: Tensor | float = 1.0
    _share_of: Share = field(default=lambda targets, rows: 1.0)
    _least: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def own(self) -> slice:
        return slice(self.rank, None, self.size)

    def begin_epoch(self, state: TrainState) -> None:
        state.epoch = self.link.epoch(state.epoch)
        if self._brought:
            return
        # The model's own weights follow when it is wrapped.
        self._brought = True
        found: list[Any] = [None]
        if self.leads and state.num_steps:
            found = [(state.optimizer.state_dict(), state.scaler.state_dict(), state.num_steps)]
        dist.broadcast_object_list(found, src=0, device=CPU)
        if found[0] is not None and not self.leads:
            optimizer, scaler, state.num_steps = found[0]
            state.optimizer.load_state_dict(optimizer)
            if scaler:
                state.scaler.load_state_dict(scaler)

    def reseed(self, seed: int) -> None:
        if not self.leads:
            torch.manual_seed(derived_seed(seed % 2**63, self.rank))

    def shared(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for number in count():
            self.link.check()
            owner = number % self.size
            batch = next(batches, None) if owner == self.rank else None
            if batch is not None and not isinstance(batch[0], Tensor):  # it is augmented before it is sent
                images, targets = finished(batch[0], batch[1].to(self.device), self.device)
                batch = images, targets.cpu()
            about: list[Any] = [None if batch is None else (batch[0].shape, batch[0].dtype, batch[1])]
            dist.broadcast_object_list(about, src=owner, device=CPU)
            if about[0] is None:
                return
            shape, dtype, targets = about[0]
            if batch is None:
                images = torch.empty(shape, dtype=dtype, device=self.device)
            else:
                images = batch[0].to(self.device, non_blocking=True).contiguous()
            dist.broadcast(images.view(torch.uint8), src=owner)  # as bytes, since not every type can be sent
            yield images, targets

    def wrapped(self, model: Forward, config: TrialConfig, loss: Loss) -> Forward:
        assert isinstance(model, nn.Module), "several ranks train uncompiled"
        if self._wrapped is not None and self._whole is model:
            return self._wrapped
        self._whole = model
        self._share_of = share_of(config, loss)
        self._least = least_images(config)
        if config.sync_batch_norm:
            sync_norms(model, lambda: self.has_images)
        buffers: dict[str, Any] = {BUFFERS: False}
        self._wrapped = DistributedDataParallel(
            model,
            device_ids=None if self.device.type == "cpu" else [self.device],
            **buffers,
            find_unused_parameters=leaves_out(config),  # which takes time, and warns where it finds none
        )
        return self._wrapped

    def take(self, inputs: Tensor, targets: Tensor, ends_step: bool) -> Batch:
        self.link.check()
        assert self._wrapped is not None
        self._wrapped.require_backward_grad_sync = ends_step  # as in its `no_sync`
        rows = parts(len(inputs), self.size, self._least)[self.rank]
        self.has_images = rows.stop > rows.start
        if self.has_images:
            self._share = self._share_of(targets, rows)
        else:  # all ranks must run the network: this one on images that do not count
            self._share = 0.0
            rows = slice(0, self._least)
        return inputs[rows], targets[rows]

    def weighed(self, loss: Tensor) -> Tensor:
        return loss * self._share

    def summed(self, total: Tensor) -> Tensor:
        dist.all_reduce(total)
        return total


Ranks = Alone | Group
