"""Solve a linear head on features in one go, instead of training it in epochs.

    solved = solve_head(features, targets, loss_of, num_outputs=3, l2=None, seed=0)
    logits = features @ solved.weight.T + solved.bias

This is regularised logistic regression for any smooth loss of logits and targets. Features are centred and divided by
one deviation, that of all of them. Dividing each by its own was worse (see docs/decisions.md).
Kornblith et al. 2019 (arXiv:1805.08974, section 3) judge backbones this way, with L-BFGS and cross-validated L2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.features.folds import spread_over_folds
from trainables.features.head_problem import HeadProblem, LossOf

NUM_FOLDS = 5
# Bound on the multiply-adds of one pass of cross-validation over the features. Rows beyond it are left out of the
# cross-validation. 2,000 rows of 2,000 features and 10 classes, five times over, are 2e8.
MOST_WORK = 4 * 10**8
FEWEST_ROWS = 1000
# of l2
SMALLEST = 1e-8
LARGEST = 1e4
NUM_DECADES = 8  # tried below the strength that halves the strongest direction
LEAST_GAIN = 1e-3  # relative gain of the loss below which no weaker strength is tried


@dataclass(frozen=True)
class Solved:
    """A solved head.

    weight  (K, F) float32, for unscaled features
    bias    (K,) float32
    l2      the strength that it was solved with
    unseen  (N, K) logits of each row by the head that did not see its fold, at the best strength that was tried;
            None unless all rows were cross-validated
    """

    weight: Tensor
    bias: Tensor
    l2: float
    unseen: Tensor | None = None

    @torch.no_grad()
    def put_into(self, head: nn.Module) -> None:
        """Copy the weights into a head that has exactly one linear layer."""
        (layer,) = (module for module in head.modules() if isinstance(module, nn.Linear))
        layer.weight.copy_(self.weight)
        layer.bias.copy_(self.bias)


def solve_head(
    features: Tensor,
    targets: Tensor,
    loss_of: LossOf,
    num_outputs: int,
    *,
    l2: float | None,
    seed: int,
    groups: Tensor | None = None,
    widths: Sequence[int] | None = None,
    ask: Callable[[], None] = lambda: None,
) -> Solved:
    """Return the head that minimises mean loss + l2 / 2 * ||W||^2, where W are the weights of the scaled features.

    features     (N, F), any floating type and device
    targets      (N, K) float, on the same device
    loss_of      logits (n, K) and targets (n, K) of some rows -> their mean loss, smooth in the logits
    num_outputs  K
    l2           None chooses it by the loss on the held-out folds of five-fold cross-validation
    seed         seed of the folds
    groups       (N,) int, rows of a group (the views of an image) share a fold; None means each row alone
    widths       number of features of each joined backbone, each scaled by a deviation of its own; None means one
    ask          called before every pass over the features, raises to stop

    scikit-learn's LogisticRegression solves the same problem with C = 1 / (l2 * N).
    """
    problem = HeadProblem.of(features, targets, loss_of, num_outputs, widths or [features.shape[1]], ask)
    chosen = _Choice(l2, problem.start(1)) if l2 is not None else _chosen(problem, groups, seed)
    everything = torch.ones(1, len(targets), dtype=torch.bool, device=features.device)
    unknowns = problem.solve(everything, chosen.l2, chosen.start, rough=False)
    weight = problem.basis @ unknowns[:-1]  # (F, K), of the scaled features
    weight /= problem.scale[:, None]
    bias = unknowns[-1] - problem.mean @ weight
    return Solved(weight.T.contiguous(), bias, chosen.l2, chosen.unseen)


@dataclass(frozen=True)
class _Choice:
    """A chosen l2, a start (R + 1, K) for it, and `Solved.unseen`."""

    l2: float
    start: Tensor
    unseen: Tensor | None = None


def _chosen(problem: HeadProblem, groups: Tensor | None, seed: int) -> _Choice:
    """Return the strength with the lowest loss on held-out folds, and a start for it.

    Decades are tried from strong to weak, each from the last one's solution, until the loss rises. Then half a decade
    to both sides of the best is tried. The result is the minimum of the parabola through the three.
    """
    # Deal the rows into folds, as many rows as MOST_WORK allows.
    num_rows = len(problem.targets)
    num_columns = problem.num_outputs * NUM_FOLDS
    most = max(FEWEST_ROWS, MOST_WORK // max(1, len(problem.spread) * num_columns))
    folds = spread_over_folds(problem.targets, groups, NUM_FOLDS, seed, most)  # (N,), -1: left out
    asked = problem.subset(torch.nonzero(folds >= 0).squeeze(1))
    folds = folds[folds >= 0]
    used = torch.stack([folds != fold for fold in range(int(folds.max()) + 1)])  # (M, n)
    if len(used) < 2 or not len(problem.spread):  # one image, or all of them equal: nothing to choose by
        return _Choice(1.0, problem.start(1))

    losses: dict[float, float] = {}
    solutions: dict[float, Tensor] = {}
    unseen_by: dict[float, Tensor] = {}

    def try_out(exponent: float, start: Tensor) -> float:
        unknowns = asked.solve(used, 10**exponent, start, rough=True)
        logits = asked.logits(unknowns, len(used))  # (n, M, K)
        unseen = logits[torch.arange(len(folds), device=folds.device), folds]  # (n, K): of the head that did not see it
        losses[exponent], solutions[exponent] = float(asked.loss_of(unseen, asked.targets)), unknowns
        unseen_by[exponent] = unseen
        return losses[exponent]

    # Try decades, beginning with the strength that halves the direction of the largest variance.
    start = asked.start(len(used))
    bend = asked.curvature(start, [torch.nonzero(one).squeeze(1) for one in used])
    strongest = float(torch.log10(bend * problem.spread.max()))
    for decade in range(NUM_DECADES + 1):
        exponent = strongest - decade
        best = min(losses.values(), default=math.inf)
        if try_out(exponent, start) > best * (1 - LEAST_GAIN):  # rising or flat: the stronger one is safer
            break
        start = solutions[exponent]
    # Refine around the best decade.
    best = min(losses, key=losses.__getitem__)
    for exponent in (best + 0.5, best - 0.5):
        try_out(exponent, solutions[best])
    # Rescale from the rows of a fold to all rows: a prior does not depend on their number, so l2 * N is kept.
    of_fold = float(used.sum(1).float().mean())
    found = 10 ** _lowest(losses) * of_fold / num_rows
    best = min(losses, key=losses.__getitem__)
    mean = solutions[best].reshape(-1, len(used), problem.num_outputs).mean(1)  # (R + 1, K)
    unseen = unseen_by[best] if len(folds) == len(problem.targets) else None
    return _Choice(min(max(found, SMALLEST), LARGEST), mean, unseen)


def _lowest(losses: dict[float, float]) -> float:
    """Return the minimum of the parabola through the lowest exponent and its neighbours half a decade away.

    It is the lowest exponent itself if a neighbour is missing.
    """
    best = min(losses, key=losses.__getitem__)
    left = losses.get(best - 0.5)
    right = losses.get(best + 0.5)
    if left is None or right is None:
        return best
    bend = left - 2 * losses[best] + right
    return best if bend <= 0 else best + 0.25 * (left - right) / bend
