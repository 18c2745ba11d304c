"""The optimisation problem of a solved head: features in the directions that they span, and L-BFGS on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.lean_imports import eager

LossOf = Callable[[Tensor, Tensor], Tensor]

# A bias is regularised by as much as a thousandth of an image, so that it stays finite for a class without images.
BIAS_PULL = 1e-3
FLATTEST = 1e-4  # least curvature of the loss by a logit that is assumed
MOST_STEPS = 300
ROUGH_STEPS = 60
# converged below this largest entry, in the preconditioned unknowns
GRADIENT = 1e-5
ROUGH_GRADIENT = 3e-4
LBFGS = eager(torch.optim.LBFGS)


@dataclass(frozen=True)
class HeadProblem:
    """Scaled features in the R directions that they span. With L2 a solution has no part outside of them.

    inputs       (N, R) float32, R at most N and F
    spread       (R,) variance in each direction
    basis        (F, R) orthonormal
    mean, scale  (F,) each, of the unscaled features

    Unknowns are (R + 1, M * K): the columns of M heads side by side, with a last row of biases.
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
    ) -> HeadProblem:
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
        """Return the unknowns (R + 1, M * K) of M heads, each solved on the subset `used` (M, N) bool of the rows.

        They are solved together, so that one pass over the features serves every fold.
        """
        rows = [torch.nonzero(one).squeeze(1) for one in used]
        pull = BIAS_PULL / len(self.targets)
        # Precondition: in these units the loss is about equally curved in all directions, at any strength.
        bend = self.curvature(start, rows)
        unit = torch.cat([(bend * self.spread + l2).rsqrt(), self.spread.new_tensor([bend**-0.5])])[:, None]
        scaled = (start / unit).requires_grad_()
        optimizer = LBFGS(
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
        """Return the mean second derivative of the loss by an image's logit, over the heads (Hutchinson's estimate)."""
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
        """Return the logits (N, M, K) of every row by every head."""
        flat = torch.addmm(unknowns[-1], self.inputs, unknowns[:-1])
        return flat.reshape(len(flat), num_heads, self.num_outputs)

    def subset(self, rows: Tensor) -> HeadProblem:
        """Return the problem of some of the rows, in unchanged directions."""
        return HeadProblem(
            self.inputs[rows], self.spread, self.basis, self.mean, self.scale, self.targets[rows],
            self.loss_of, self.num_outputs, self.ask,
        )  # fmt: skip


def _deviation(variance: Tensor, mean: Tensor) -> Tensor:
    """Return (F,) the deviation of all of a backbone's features, repeated. It is infinite if all are constant."""
    moving = variance.sqrt() > 1e-6 * mean.abs() + 1e-12
    whole = variance[moving].mean().sqrt() if moving.any() else variance.new_tensor(torch.inf)
    return whole.expand_as(variance)


def _directions(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis (F, R) of the span of the rows (N, F), and the variance (R,) in each direction."""
    num_rows, num_features = scaled.shape
    wide = num_features > num_rows
    products = (scaled @ scaled.T if wide else scaled.T @ scaled).double()
    values, vectors = torch.linalg.eigh(products)
    kept = values > 1e-6 * values[-1].clamp(min=1e-12)  # smaller ones are rounding of the float32 products
    values = values[kept]
    vectors = vectors[:, kept]
    basis = scaled.T @ vectors.float() / values.sqrt().float() if wide else vectors.float()
    return basis, (values / num_rows).float()
