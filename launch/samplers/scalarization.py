"""Scalarization of several objectives: what a proposal is worth under one weighting of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from launch.samplers.encoding import Rows
from launch.samplers.gp import GaussianProcess
from launch.samplers.history import Vector

AUGMENTED = 0.05  # of the plain sum, so that nothing is given away where the worst objective does not change
DRAWS = 64


def scalarize(gaps: Rows, weights: Vector) -> Rows:
    """Return the negative augmented Chebyshev distance (...,) of gaps (..., m), higher is better.

    A gap is the distance to the best value of an objective, scaled to about [0, 1]. Each draw of weights prefers
    another point of the Pareto front, concave parts included. Source: ParEGO (Knowles 2006).
    """
    weighted = gaps * weights
    return np.asarray(-(weighted.max(axis=-1) + AUGMENTED * weighted.sum(axis=-1)))


def by_ranks(values: Rows, weights: Vector) -> Vector:
    """Return values (n, m) on arbitrary scales as one number each, (n,), higher is better.

    Values of a single objective are returned as they are.
    """
    if values.shape[1] == 1 or not len(values):
        return np.asarray(values.sum(axis=1))
    from scipy.stats import rankdata  # most of a second, which searches of one objective need not wait for

    return scalarize(1 - rankdata(values, axis=0) / len(values), weights)


class ScalarizedImprovement:
    """Expected improvement of a scalarization of several objectives, each with its own model.

    models    one for each objective
    expected  (n, m) predictions at full training for the n configurations seen; they set each objective's scale
    weights   (m,) of the objectives
    rng       draws the samples that all candidates share
    """

    def __init__(
        self, models: Sequence[GaussianProcess], expected: Rows, weights: Vector, rng: np.random.Generator
    ) -> None:
        self.models = models
        self.weights = weights
        self.top = expected.max(axis=0)
        self.spread = np.maximum(np.ptp(expected, axis=0), 1e-9)
        self.seen = scalarize((self.top - expected) / self.spread, weights)  # (n,)
        self.draws = rng.normal(size=(DRAWS, 1, len(models)))

    def gain(self, features: Rows) -> Vector:
        """Return the log expected improvement (m,), estimated from DRAWS samples that all candidates share."""
        means, deviations = (np.stack(parts, axis=1) for parts in zip(*self._predictions(features), strict=True))
        outcomes = means + deviations * self.draws  # (DRAWS, candidates, objectives)
        better = scalarize((self.top - outcomes) / self.spread, self.weights) - self.seen.max()
        # Where no sample improves, the least bad one still shows in which direction candidates get better.
        return np.asarray(np.log(np.maximum(better, 0).mean(axis=0) + 1e-6) + np.minimum(better.max(axis=0), 0))

    def _predictions(self, features: Rows) -> list[tuple[Vector, Vector]]:
        return [model.predict(features) for model in self.models]
