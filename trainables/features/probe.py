"""Probes: trials of one epoch, whose linear head is solved on kept features (see `solved_head.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.config.solved import Lbfgs
from trainables.config.views import MIRRORED
from trainables.device import exact_place
from trainables.features.features import FrozenBackbone
from trainables.features.solved_head import solve_head
from trainables.losses import loss_on
from visionsweep.core.errors import Diverged

UNSEEN = "unseen"  # the name of `SolvedEpoch.unseen` among a trial's predictions
ENOUGH_TO_CHOOSE = 200  # validation images that choose among models without `unseen` (see docs/choosing.md)


@dataclass(frozen=True, eq=False)
class SolvedEpoch:
    """The result of `solve_epoch`.

    loss    mean training loss
    l2      strength of the head
    unseen  (N, K) float32 logits of the training images in the evaluation's view, each by the head that did not see
            its fold; None without them (see `Solved`), or if no view is the evaluation's
    """

    loss: float
    l2: float
    unseen: np.ndarray | None

    def kept(self, num_val: int) -> dict[str, np.ndarray]:
        """Return `unseen` by its name if there are too few validation images to choose by, else {}."""
        return {UNSEEN: self.unseen} if self.unseen is not None and num_val < ENOUGH_TO_CHOOSE else {}


def solve_epoch(
    optimizer: Lbfgs,
    frozen: FrozenBackbone,
    labels: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    ask: Callable[[], None],
    splits: Sequence[str] = ("train",),
) -> SolvedEpoch:
    """Solve the head of `frozen.model` on the features of all views.

    labels   (N, K) float of the whole data set
    loss_of  the configuration's loss, of logits and targets (B, K)
    ask      called before every pass over the features, raises to stop
    splits   whose images the head is solved on

    Raises Diverged if features are not finite, DataError if there is no room for them.
    """
    device = exact_place(frozen.device)
    config = frozen.config
    loss_of = loss_on(loss_of, device)
    features, images = frozen.training_rows(splits)
    features = features.to(device)
    targets = labels[images].to(device)
    if not torch.isfinite(features).all():  # the backbone's values exceed the range of the precision
        raise Diverged(math.nan, 1, 0, 0.0)
    together = frozen.data.dataset.groups_of(images.numpy())  # views of an image share a fold, and so do groups
    groups = images if together is None else torch.from_numpy(together)
    solved = solve_head(
        features, targets, loss_of, targets.shape[1],
        l2=optimizer.l2, seed=config.seed, groups=groups, widths=frozen.widths, ask=ask,
    )  # fmt: skip
    solved.put_into(frozen.model.head)
    with torch.no_grad():
        logits = torch.addmm(solved.bias, features.float(), solved.weight.T)
        loss = float(loss_of(logits, targets))
    return SolvedEpoch(loss, solved.l2, _of_judged_view(solved.unseen, frozen, splits))


def _of_judged_view(unseen: Tensor | None, frozen: FrozenBackbone, splits: Sequence[str]) -> np.ndarray | None:
    """Return the rows of the evaluation's view, None if views are drawn or there are several splits.

    Rows come split by split, and view by view within a split. The evaluation's view is the first.
    """
    num_views = frozen.config.views or 1
    if unseen is None or num_views > MIRRORED or len(splits) > 1:
        return None
    num_images = len(unseen) // num_views
    return unseen[:num_images].float().cpu().numpy()
