"""A prior over the configurations of each regime: its warm starts, and what is near them.

A regime such as `finetune` has dozens of parameters, and a budget of minutes pays for a handful of its trials. Drawn
evenly, hardly any of them can win. So the first draws keep most of a warm start, and the gain of a proposal is weighed
by the prior, as πBO does (Hvarfner et al. 2022, arXiv:2204.11051). Both fade as trials of the regime end: what the
model has learned decides then.

A space without regimes that chooses the length of trainings is made for such budgets too, and counts as one regime. Any
other space, and a regime without warm starts, has no prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from launch.samplers.encoding import Encoder, Rows
from launch.samplers.history import Vector
from launch.samplers.lengths import Lengths
from search_spaces.grammar import REGIME

KEPT = 0.85  # probability that a draw keeps a value of the warm start, before any trial of the regime has ended
STEP = 0.12  # standard deviation of a number around that value, as a share of its range
# Ended trials of a regime that halve the weight of its prior, and lower the share that is kept to KEPT squared.
TRIALS = 6


class WarmPrior:
    """A mixture for every parameter: the value of a warm start, and with a smaller weight any value.

    encoder     of the space
    lengths     of the space, which know its regimes and whether trainings differ in length
    warm_start  flat parameters of each warm start; what one of them lacks has no prior
    """

    def __init__(self, encoder: Encoder, lengths: Lengths, warm_start: Sequence[Mapping[str, Any]]) -> None:
        self.encoder = encoder
        self.lengths = lengths
        self.regime = encoder.column.get(REGIME)
        has_prior = REGIME in encoder.space or lengths.vary
        known = [encoder.encode(params) for params in warm_start] if has_prior else []
        given = np.array(known).reshape(len(known), len(encoder))
        regimes = lengths.regime_of(given)
        self.given = [given[regimes == number] for number in range(lengths.num_regimes)]

    def pull(self, points: Rows, rng: np.random.Generator, num_ended: Vector) -> Rows:
        """Replace most coordinates of points in the unit cube by those of a warm start of their regime, in place.

        points     (n, num_parameters), which `Encoder.settle` takes next
        num_ended  (num_regimes,) trials that have ended
        """
        for number, (rows, ended) in enumerate(zip(self.given, num_ended, strict=True)):
            here = np.flatnonzero(self.lengths.regime_of(points) == number)
            if not len(rows) or not len(here):
                continue
            near = rows[rng.integers(len(rows), size=len(here))]
            stepped = np.clip(near + rng.normal(0, STEP, near.shape), 0, 1 - 1e-9)
            near = np.where(self.encoder.choices > 0, near, stepped)
            kept = (rng.random(near.shape) < _share_kept(ended)) & ~np.isnan(near)
            points[here] = np.where(kept, near, points[here])
        return points

    def pull_choices(self, drawn: Mapping[int, float], rng: np.random.Generator, num_ended: Vector) -> dict[int, float]:
        """Return drawn values by column, most of them replaced by those of a warm start, as `pull` does."""
        pulled = dict(drawn)
        for rows, ended in zip(self.given, num_ended, strict=True):
            if len(rows):
                near = rows[rng.integers(len(rows))]
                kept = [column for column in drawn if column != self.regime and rng.random() < _share_kept(ended)]
                pulled |= {column: float(near[column]) for column in kept if not np.isnan(near[column])}
        return pulled

    def log_weight(self, rows: Rows, num_ended: Vector) -> Vector:
        """Return the log weight (n,) of rows (n, num_parameters): 0 at a warm start, below 0 elsewhere.

        It is the density of the nearest warm start's prior, to a power that falls with `num_ended` (num_regimes,).
        """
        found = np.zeros(len(rows))
        regimes = self.lengths.regime_of(rows)
        for number, (given, ended) in enumerate(zip(self.given, num_ended, strict=True)):
            here = regimes == number
            if len(given) and here.any():
                densities = np.stack([self._log_density(rows[here], one) for one in given])
                found[here] = densities.max(axis=0) * TRIALS / (TRIALS + ended)
        return found

    def _log_density(self, rows: Rows, given: Vector) -> Vector:
        """Return the log density (n,) of rows in the prior of one warm start, relative to its peak."""
        apart = np.abs(rows - given)  # NaN where either lacks the parameter
        choices = self.encoder.choices
        near = np.where(choices > 0, apart < 1e-9, np.exp(-0.5 * (apart / STEP) ** 2))
        # A choice is one of several equally likely ones, a number has a normal density.
        peak = KEPT * np.where(choices > 0, np.maximum(choices, 1), 1 / (STEP * np.sqrt(2 * np.pi)))
        density = np.log(peak * near + 1 - KEPT) - np.log(peak + 1 - KEPT)
        return np.asarray(np.where(np.isnan(apart), 0.0, density).sum(axis=1))


def _share_kept(num_ended: float) -> float:
    return float(KEPT ** (1 + num_ended / TRIALS))
