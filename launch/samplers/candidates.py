"""Maximize what a proposal is worth: over random candidates and neighbours of the best, then in ever smaller steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from launch.samplers.encoding import Encoder, Rows

# numbers of random candidates where proposals must fit into the rest of a budget
DRAWS = 1500
FEW = 100
MANY = 300

Fixed = Mapping[int, float]


@dataclass(frozen=True)
class Candidates:
    """The candidates of one sampler.

    encoder  of the space
    draw     of (rng, num, fixed): random configurations (num, num_parameters) with the value of some columns fixed
    fits     which rows (n, num_parameters) fit into a budget, (n,) bool. None: all do
    """

    encoder: Encoder
    draw: Callable[[np.random.Generator, int, Fixed], Rows]
    fits: Callable[[Rows], NDArray[np.bool_]] | None

    def fitting(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows fit into the budget, (n,) bool."""
        return np.ones(len(rows), dtype=bool) if self.fits is None or not len(rows) else self.fits(rows)

    def that_fit(self, rng: np.random.Generator, fixed: Fixed) -> Rows:
        """Return those of DRAWS random configurations that fit into the budget, (n, num_parameters)."""
        rows = self.draw(rng, DRAWS, fixed)
        return np.asarray(rows[self.fitting(rows)])

    def best(self, rng: np.random.Generator, known: Rows, fixed: Fixed, worth: Callable[[Rows], Rows]) -> Rows:
        """Return the candidate (num_parameters,) of the largest worth.

        known  the best configurations so far (n, num_parameters), whose neighbours are tried, far and near
        worth  of candidates (m, num_parameters), (m,)
        """
        rate = min(0.5, 2.5 / len(self.encoder))
        pool = np.concatenate(
            [
                self.draw(rng, 300, fixed),
                self.encoder.perturb(np.repeat(known, 15, axis=0), rng, 0.15, rate, fixed),
                self.encoder.perturb(np.repeat(known, 10, axis=0), rng, 0.03, rate, fixed),
            ]
        )
        if self.fits is not None:
            pool = pool[self.fitting(pool)]
            if len(pool) < FEW:  # near the end of the budget most of the space is too long
                pool = np.concatenate([pool, self.that_fit(rng, fixed)[:MANY]])
            if not len(pool):
                pool = self.draw(rng, 1, fixed)
        # Refine: replace the pool with its best six and their neighbours, twice, in ever smaller steps.
        gain = worth(pool)
        for scale in (0.08, 0.02):
            first = np.argsort(-gain, kind="stable")[:6]
            near = self.encoder.perturb(np.repeat(pool[first], 15, axis=0), rng, scale, rate, fixed)
            near = near if self.fits is None else near[self.fitting(near)]
            pool = np.concatenate([pool[first], near])
            gain = np.concatenate([gain[first], worth(near)]) if len(near) else gain[first]
        row: Rows = pool[int(np.argmax(gain))]
        return row


def nearness(seen: Rows, tried: Rows, distance: float) -> Rows:
    """Return a penalty (m,): 1 at a configuration that was tried, falling to 0 at `distance` from all of them.

    A model that is sure of itself proposes nearly the same configuration again and again for tiny gains. Training
    another configuration tells more than training almost the same one once more.
    """
    if not len(tried):
        return np.zeros(len(seen))
    squared = ((seen**2).sum(1)[:, None] + (tried**2).sum(1)[None] - 2 * seen @ tried.T).min(axis=1)
    return np.asarray(np.maximum(1 - np.sqrt(np.maximum(squared, 0)) / max(distance, 1e-12), 0))
