"""Solve a linear head on features in one go, instead of training it in epochs.

    solved = solve_head(features, targets, loss_of, num_outputs=3, l2=None, seed=0)
    logits = features @ solved.weight.T + solved.bias

Regularised logistic regression for any smooth loss of logits and targets, on features that are centred and divided by
one deviation, that of all of them: each by its own was worse (see CONTRIBUTING.md). Kornblith et al. 2019
(arXiv:1805.08974, section 3) judge backbones like this: L2 by cross-validation, L-BFGS until it converges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.folds import spread_over_folds

LossOf = Callable[[Tensor, Tensor], Tensor]

NUM_FOLDS = 5
# Multiply-adds of one pass of cross-validation over the features. More rows than it allows are not asked for the
# strength: 2,000 rows of 2,000 features and 10 classes, five times over, are 2e8.
MOST_WORK = 4 * 10**8
FEWEST_ROWS = 1000
# A bias is all but free: pulled as if by a thousandth of an image, so that it stays finite for a class without any.
BIAS_PULL = 1e-3
SMALLEST, LARGEST = 1e-8, 1e4  # of l2
NUM_DECADES = 8  # that cross-validation goes down from the strength that halves the strongest direction
LEAST_GAIN = 1e-3  # of the loss, for which a weaker one is looked at
FLATTEST = 1e-4  # curvature of the loss by a logit that is reckoned with, at least
MOST_STEPS, ROUGH_STEPS = 300, 60
GRADIENT, ROUGH_GRADIENT = 1e-5, 3e-4  # where it ends: the largest entry, in the preconditioned unknowns


@dataclass(frozen=True)
class Solved:
    """weight (K, F) and bias (K,) float32 for features as they came; l2: the strength that they were solved with."""

    weight: Tensor
    bias: Tensor
    l2: float


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
    """Return the head that minimises mean loss + l2 / 2 * ||W||^2, W the weights of the scaled features.

    features     (N, F), of any floating type, computed with on their device
    targets      (N, K) float, on that device too
    loss_of      logits (n, K) and targets (n, K) of some rows -> their mean loss, smooth in the logits
    num_outputs  K
    l2           None: chosen by five-fold cross-validation, by the loss of the folds left out
    seed         of the folds
    groups       (N,) int; rows of a group, such as the views of an image, share a fold. None: each row by itself
    widths       how many features each of several backbones gave, side by side: each has a deviation of its own
    ask          called before every pass over the features, raises to stop

    scikit-learn's LogisticRegression solves the same with C = 1 / (l2 * N).
    """
    problem = _Problem.of(features, targets, loss_of, num_outputs, widths or [features.shape[1]], ask)
    strength, start = (l2, problem.start(1)) if l2 is not None else _chosen(problem, groups, seed)
    everything = torch.ones(1, len(targets), dtype=torch.bool, device=features.device)
    unknowns = problem.solve(everything, strength, start, rough=False)
    weight = problem.basis @ unknowns[:-1]  # (F, K), of the scaled features
    weight /= problem.scale[:, None]
    bias = unknowns[-1] - problem.mean @ weight
    return Solved(weight.T.contiguous(), bias, strength)


@dataclass(frozen=True)
class _Problem:
    """Scaled features in the directions that they span: with L2 a solution has no part outside of them.

    inputs   (N, R) float32, R at most N and F
    spread   (R,) the variance in each direction
    basis    (F, R) orthonormal; mean, scale: (F,)
    Unknowns are (R + 1, M * K): the columns of M heads side by side, a row of biases at the end.
    """

    inputs: Tensor
    spread: Tensor
    basis: Tensor
    mean: Tensor
    scale: Tensor
    targets: Tensor
    loss_of: LossOf
    num_outputs: int
    ask: Callable[[], None]

    @classmethod
    def of(
        cls,
        features: Tensor,
        targets: Tensor,
        loss_of: LossOf,
        num_outputs: int,
        widths: Sequence[int],
        ask: Callable[[], None],
    ) -> _Problem:
        features = features.float()
        of_parts = list(widths)
        variance, mean = torch.var_mean(features, dim=0, correction=0)  # (F,) each
        scale = torch.cat(
            [
                _deviation(*part)
                for part in zip(torch.split(variance, of_parts), torch.split(mean, of_parts), strict=True)
            ]
        )
        scaled = (features - mean) / scale
        basis, spread = _directions(scaled)
        return cls(scaled @ basis, spread, basis, mean, scale, targets.float(), loss_of, num_outputs, ask)

    def start(self, num_heads: int) -> Tensor:
        return self.inputs.new_zeros(len(self.spread) + 1, num_heads * self.num_outputs)

    def solve(self, used: Tensor, l2: float, start: Tensor, *, rough: bool) -> Tensor:
        """Return the unknowns (R + 1, M * K) of the heads that M subsets of the rows give, `used` (M, N) bool.

        All of them together: one pass over the features serves every fold.
        """
        rows = [torch.nonzero(one).squeeze(1) for one in used]
        pull = BIAS_PULL / len(self.targets)
        bend = self.curvature(start, rows)
        # In these units the loss is about equally curved in all directions, whatever the strength.
        unit = torch.cat([(bend * self.spread + l2).rsqrt(), self.spread.new_tensor([bend**-0.5])])[:, None]
        scaled = (start / unit).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [scaled],
            max_iter=ROUGH_STEPS if rough else MOST_STEPS,
            tolerance_grad=ROUGH_GRADIENT if rough else GRADIENT,
            tolerance_change=1e-10,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            self.ask()
            optimizer.zero_grad()
            unknowns = scaled * unit
            logits = self.logits(unknowns, len(rows))
            total = sum(
                (self.loss_of(logits[part, number], self.targets[part]) for number, part in enumerate(rows)),
                start=l2 / 2 * unknowns[:-1].square().sum() + pull / 2 * unknowns[-1].square().sum(),
            )
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return (scaled * unit).detach()

    def curvature(self, unknowns: Tensor, rows: list[Tensor]) -> float:
        """The mean second derivative of the loss by an image's logit, over the heads (Hutchinson's estimate)."""
        logits = self.logits(unknowns, len(rows))
        signs = torch.Generator().manual_seed(0)
        found = 0.0
        for number, part in enumerate(rows):
            own = logits[part, number].requires_grad_()
            sign = (torch.randint(2, own.shape, generator=signs) * 2 - 1).to(own)
            (slope,) = torch.autograd.grad(self.loss_of(own, self.targets[part]), own, create_graph=True)
            (bend,) = torch.autograd.grad((slope * sign).sum(), own)
            found += float((bend * sign).sum()) / self.num_outputs / len(rows)
        return max(found, FLATTEST)

    def logits(self, unknowns: Tensor, num_heads: int) -> Tensor:
        """(N, M, K) of every row by every head."""
        flat = torch.addmm(unknowns[-1], self.inputs, unknowns[:-1])
        return flat.reshape(len(flat), num_heads, self.num_outputs)

    def subset(self, rows: Tensor) -> _Problem:
        """The same directions, of some of the rows."""
        return _Problem(
            self.inputs[rows], self.spread, self.basis, self.mean, self.scale, self.targets[rows],
            self.loss_of, self.num_outputs, self.ask,
        )  # fmt: skip


def _deviation(variance: Tensor, mean: Tensor) -> Tensor:
    """(F,) one value, the deviation of a backbone's features; infinite where all are constant but for rounding."""
    moving = variance.sqrt() > 1e-6 * mean.abs() + 1e-12
    whole = variance[moving].mean().sqrt() if moving.any() else variance.new_tensor(torch.inf)
    return whole.expand_as(variance)


def _directions(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis (F, R) of what the rows (N, F) span, and the variance (R,) in each of its directions."""
    num_rows, num_features = scaled.shape
    wide = num_features > num_rows
    products = (scaled @ scaled.T if wide else scaled.T @ scaled).double()
    values, vectors = torch.linalg.eigh(products)
    kept = values > 1e-6 * values[-1].clamp(min=1e-12)  # float32 products tell no smaller ones from zero
    values, vectors = values[kept], vectors[:, kept]
    basis = scaled.T @ vectors.float() / values.sqrt().float() if wide else vectors.float()
    return basis, (values / num_rows).float()


def _chosen(problem: _Problem, groups: Tensor | None, seed: int) -> tuple[float, Tensor]:
    """The strength whose heads have the lowest loss on the folds that they have not seen, and a start for it.

    Decades, from strong to weak and each from the last one's solution, until the loss rises; then half a decade to
    both sides of the best, and the lowest point of the parabola through the three.
    """
    num_rows = len(problem.targets)
    num_columns = problem.num_outputs * NUM_FOLDS
    most = max(FEWEST_ROWS, MOST_WORK // max(1, len(problem.spread) * num_columns))
    folds = spread_over_folds(problem.targets, groups, NUM_FOLDS, seed, most)  # (N,), -1: left out
    asked = problem.subset(torch.nonzero(folds >= 0).squeeze(1))
    folds = folds[folds >= 0]
    used = torch.stack([folds != fold for fold in range(int(folds.max()) + 1)])  # (M, n)
    if len(used) < 2 or not len(problem.spread):  # one image, or all of them equal: nothing to choose by
        return 1.0, problem.start(1)

    losses: dict[float, float] = {}
    solutions: dict[float, Tensor] = {}

    def try_out(exponent: float, start: Tensor) -> float:
        unknowns = asked.solve(used, 10**exponent, start, rough=True)
        logits = asked.logits(unknowns, len(used))  # (n, M, K)
        unseen = logits[torch.arange(len(folds), device=folds.device), folds]  # (n, K): of the head that did not see it
        losses[exponent], solutions[exponent] = float(asked.loss_of(unseen, asked.targets)), unknowns
        return losses[exponent]

    start = asked.start(len(used))
    bend = asked.curvature(start, [torch.nonzero(one).squeeze(1) for one in used])
    strongest = float(torch.log10(bend * problem.spread.max()))
    for decade in range(NUM_DECADES + 1):
        exponent = strongest - decade
        best = min(losses.values(), default=math.inf)
        if try_out(exponent, start) > best * (1 - LEAST_GAIN):  # it rises, or is flat, where the stronger one is safer
            break
        start = solutions[exponent]
    best = min(losses, key=losses.__getitem__)
    for exponent in (best + 0.5, best - 0.5):
        try_out(exponent, solutions[best])
    # A prior does not depend on how many images there are: l2 * N is kept.
    of_fold = float(used.sum(1).float().mean())
    found = 10 ** _lowest(losses) * of_fold / num_rows
    best = min(losses, key=losses.__getitem__)
    mean = solutions[best].reshape(-1, len(used), problem.num_outputs).mean(1)  # (R + 1, K)
    return min(max(found, SMALLEST), LARGEST), mean


def _lowest(losses: dict[float, float]) -> float:
    """Where a parabola through the lowest of half-decades and its neighbours is lowest."""
    best = min(losses, key=losses.__getitem__)
    left, right = losses.get(best - 0.5), losses.get(best + 0.5)
    if left is None or right is None:
        return best
    bend = left - 2 * losses[best] + right
    return best if bend <= 0 else best + 0.25 * (left - right) / bend
