"""Batch norm over the images of all ranks.

torch's SyncBatchNorm works on GPUs alone, replaces modules, and gives weight to a rank without images of its own. This
one replaces how a norm computes while it trains. So its state, and all that evaluates it, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from visionsweep.core.errors import ConfigError

ANY = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
KNOWN = (*ANY, BatchNormAct2d)


class _Summed(torch.autograd.Function):
    """The sum of a tensor over all ranks, and of its gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def sync_norms(model: nn.Module, has_images: Callable[[], bool]) -> None:
    """Let the batch norms of a model compute their statistics over all ranks while they train.

    has_images  whether the batch has images for this rank; if not, what it computes does not count

    Raises ConfigError for a kind of batch norm that is not known here.
    """

    def forward(norm: Any, images: Tensor) -> Tensor:
        if not norm.training:
            result: Tensor = type(norm).forward(norm, images)
            return result
        normed = _normed(norm, images, has_images())
        for after in ("drop", "act"):  # of timm's norm with an activation
            if hasattr(norm, after):
                normed = getattr(norm, after)(normed)
        return normed

    for norm in model.modules():
        if isinstance(norm, ANY):
            if type(norm) not in KNOWN:
                raise ConfigError(
                    f"sync_batch_norm does not know the norm {type(norm).__name__} of this network. "
                    "Set sync_batch_norm=false."
                )
            norm.forward = MethodType(forward, norm)  # type: ignore[method-assign]


def _normed(norm: Any, images: Tensor, counts: bool) -> Tensor:
    """Return images (B, C, ...) normalised over all ranks' images, and update the running statistics."""
    axes = [axis for axis in range(images.ndim) if axis != 1]
    wide = images.float()
    size = torch.full((1,), images.numel() / images.shape[1] if counts else 0.0, device=images.device)
    means = wide.mean(dim=axes)  # (C,)
    variances = wide.var(dim=axes, unbiased=False)
    # One row a rank, so that one sum brings all of them to all ranks.
    rows = torch.zeros(dist.get_world_size(), 2 * len(means) + 1, device=images.device)
    place = torch.zeros_like(rows[:, :1])
    place[dist.get_rank()] = 1.0
    rows = _Summed.apply(place * torch.cat([means, variances, size]))  # (R, 2C + 1)
    each_mean, each_variance, sizes = rows[:, : len(means)], rows[:, len(means) : -1], rows[:, -1:].detach()
    total = sizes.sum()
    mean = (sizes * each_mean).sum(dim=0) / total
    variance = (sizes * (each_variance + (each_mean - mean) ** 2)).sum(dim=0) / total
    _run(norm, mean.detach(), variance.detach() * total / (total - 1))
    shape = [1, -1] + [1] * (images.ndim - 2)
    normed = (wide - mean.view(shape)) * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        normed = normed * norm.weight.view(shape) + norm.bias.view(shape)
    result: Tensor = normed.to(images.dtype)
    return result


@torch.no_grad()
def _run(norm: Any, mean: Tensor, variance: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), weight)
