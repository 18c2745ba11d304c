"""What a proposal is worth where several objectives count: one weighing of them at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from launch.engine.history import Vector
from launch.engine.surrogate import Surrogate
from launch.engine.vectors import Rows

AUGMENTED = 0.05  # of the plain sum, so that nothing is given away where the worst objective does not change
DRAWS = 64


def scalarised(gaps: Rows, weights: Vector) -> Rows:
    """(...,) of gaps (..., m) to what is best, in [0, 1] or so: the augmented Chebyshev distance, negative (ParEGO,
    Knowles 2006). With other weights each time the best of it walks along the whole front, dents included."""
    weighted = gaps * weights
    return np.asarray(-(weighted.max(axis=-1) + AUGMENTED * weighted.sum(axis=-1)))


def by_ranks(values: Rows, weights: Vector) -> Vector:
    """(n,) values (n, m) of whatever scales as one number, higher is better. Of one objective they stay as they are."""
    if values.shape[1] == 1 or not len(values):
        return np.asarray(values.sum(axis=1))
    from scipy.stats import rankdata  # most of a second, which searches of one objective need not wait for

    return scalarised(1 - rankdata(values, axis=0) / len(values), weights)


class Compromise:
    """Expected improvement of a weighing of what several models expect, each of one objective.

    expected: (n, m) what the models expect of the n configurations seen, at full training: the scale of each objective.
    """

    def __init__(self, models: Sequence[Surrogate], expected: Rows, weights: Vector, rng: np.random.Generator) -> None:
        self.models, self.weights = models, weights
        self.top, self.spread = expected.max(axis=0), np.maximum(np.ptp(expected, axis=0), 1e-9)
        self.seen = scalarised((self.top - expected) / self.spread, weights)  # (n,)
        self.draws = rng.normal(size=(DRAWS, 1, len(models)))

    def gain(self, features: Rows) -> Vector:
        """(m,) the logarithm of it, over DRAWS draws that all candidates share."""
        means, deviations = (np.stack(parts, axis=1) for parts in zip(*self._predictions(features), strict=True))
        outcomes = means + deviations * self.draws  # (DRAWS, candidates, objectives)
        better = scalarised((self.top - outcomes) / self.spread, self.weights) - self.seen.max()
        # Where no draw is better, the least bad one says in which direction it gets better.
        return np.asarray(np.log(np.maximum(better, 0).mean(axis=0) + 1e-6) + np.minimum(better.max(axis=0), 0))

    def _predictions(self, features: Rows) -> list[tuple[Vector, Vector]]:
        return [model.predict(features) for model in self.models]
