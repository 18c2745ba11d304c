"""A probe: the one epoch of a trial whose linear head is solved on kept features (see `solved_head.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from search_spaces.errors import Diverged
from trainables.config_solved import Lbfgs
from trainables.features import FrozenBackbone
from trainables.solved_head import solve_head


def solve_epoch(
    optimizer: Lbfgs,
    frozen: FrozenBackbone,
    labels: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    ask: Callable[[], None],
    splits: Sequence[str] = ("train",),
) -> tuple[float, float]:
    """Solve the head of `frozen.model` on the features of all views, and return its mean loss and the l2 it took.

    labels   (N, K) float of the whole data set
    loss_of  the configuration's loss, of logits and targets (B, K)
    ask      called before every pass over the features, raises to stop
    splits   whose images it learns from

    Raises Diverged where features are not finite, DataError where there is no room for them.
    """
    device, config = frozen.device, frozen.config
    features, images = frozen.training_rows(splits)
    features, targets = features.to(device), labels[images].to(device)
    if not torch.isfinite(features).all():  # a precision that the backbone's values exceed
        raise Diverged(math.nan, 1, 0, 0.0)
    solved = solve_head(
        features, targets, loss_of, targets.shape[1],
        l2=optimizer.l2, seed=config.seed, groups=images, widths=frozen.widths, ask=ask,
    )  # fmt: skip
    solved.put_into(frozen.model.head)
    with torch.no_grad():
        logits = torch.addmm(solved.bias, features.float(), solved.weight.T)
        return float(loss_of(logits, targets)), solved.l2
