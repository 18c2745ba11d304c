"""Trials of earlier runs as observations of the sampler's model.

Those on the same data are values like this search's own. Those on other data are ranked among themselves. So the model
learns which configurations were good there, and nothing of how good (Salinas et al. 2020, quantile-based transfer). A
mark for each other run lets it learn how much that says here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launch.samplers.encoding import Encoder, Rows
from launch.samplers.gp import Observations, Vector, normal_scores
from visionsweep.core.errors import RunError

MOST = 100  # observations in all: with the search's own, a proposal still takes some tens of milliseconds
SAME = 0  # source of trials on the same data; other runs count from 1


@dataclass(frozen=True)
class Learned:
    """Observations of earlier trials, at most MOST.

    rows        (m, num_parameters)
    fidelity    (m,)
    values      (m, num_objectives) higher is better, minus infinity for infeasible
    source      (m,) SAME, or the number of the run on other data
    num_trials  that they are of
    """

    rows: Rows
    fidelity: Vector
    values: Rows
    source: NDArray[np.int_]
    num_trials: int

    @classmethod
    def of(cls, encoder: Encoder, stored: Sequence[Mapping[str, Any]], num_objectives: int) -> Learned | None:
        """Return the observations of trials as search.json has them (`launch/search/learning.py`), None for none.

        Raises RunError for what no version of visionsweep has written.
        """
        try:
            seen = [one for trial in stored for one in _seen(encoder, trial, num_objectives)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"search.json: what the search learned from earlier runs cannot be read ({error}). "
                "Delete its key 'learned'."
            ) from None
        if not seen:
            return None
        kept = [seen[place] for place in _most(seen)]
        rows, fidelity, values, source = zip(*kept, strict=True)
        return cls(np.array(rows), np.array(fidelity), np.array(values), np.array(source), len(stored))

    def scores(self, own: Vector, column: int) -> Vector:
        """Return the scores (n + m,) of the search's own values (n,) in an objective, and of these after them.

        own: higher is better
        """
        same = self.source == SAME
        together = np.concatenate([own, self.values[same, column]])
        if len(together):
            together = normal_scores(together)
        found = np.empty(len(own) + len(self.source))
        found[: len(own)] = together[: len(own)]
        theirs = found[len(own) :]
        theirs[same] = together[len(own) :]
        for number in np.unique(self.source[~same]):
            there = self.source == number
            theirs[there] = normal_scores(self.values[there, column])
        return found

    @property
    def num_others(self) -> int:
        """How many runs on other data there are."""
        return len(self._others)

    def marks(self, num_own: int) -> Rows:
        """Return which run on other data each observation is of, (num_own + m, num_others) of 0 and 1.

        The model takes a mark as one more parameter, whose length scale says how alike the two data sets are. So it
        learns how much another run says as the search's own values come in (Swersky et al. 2013).
        """
        theirs = self.source[:, None] == self._others[None]
        return np.concatenate([np.zeros((num_own, self.num_others)), theirs.astype(np.float64)])

    @property
    def _others(self) -> NDArray[np.int_]:
        return np.unique(self.source[self.source != SAME])


def observations(
    encoder: Encoder, learned: Learned | None, rows: Rows, fidelity: Vector, values: Rows
) -> list[Observations]:
    """Return the observations of each objective: the search's own, and after them those of earlier runs.

    rows, fidelity, values: the search's own, as in `Learned`.
    """
    features, owner = encoder.features(rows)
    if learned is None:
        scores = [normal_scores(column) for column in values.T]
        return [Observations(features, owner, len(encoder), fidelity, column) for column in scores]
    theirs, _ = encoder.features(learned.rows)
    features = np.concatenate([np.concatenate([features, theirs]), learned.marks(len(rows))], axis=1)
    owner = np.concatenate([owner, len(encoder) + np.arange(learned.num_others)])
    fidelity = np.concatenate([fidelity, learned.fidelity])
    scores = [learned.scores(column, place) for place, column in enumerate(values.T)]
    return [Observations(features, owner, len(encoder) + learned.num_others, fidelity, column) for column in scores]


_One = tuple[Rows, float, tuple[float, ...], int]


def _seen(encoder: Encoder, trial: Mapping[str, Any], num_objectives: int) -> Iterable[_One]:
    row = encoder.encode(dict(trial["params"]))
    shown = [(float(fidelity), tuple(map(float, values))) for fidelity, values in trial["shown"]]
    if any(len(values) != num_objectives or not math.isfinite(sum(values)) for _, values in shown):
        raise ValueError("a value is none of its objectives")
    if trial["infeasible"]:
        worst = (-math.inf,) * num_objectives
        shown = [(fidelity, worst) for fidelity in sorted({*(fidelity for fidelity, _ in shown), 1.0})]
    return [(row, fidelity, values, int(trial["source"])) for fidelity, values in shown]


def _most(seen: Sequence[_One]) -> list[int]:
    """Return the places of at most MOST observations: of each source the best third, and the others evenly."""
    if len(seen) <= MOST:
        return list(range(len(seen)))
    sources = sorted({one[3] for one in seen})
    share = MOST // len(sources)
    kept = list[int]()
    for source in sources:
        places = sorted((place for place, one in enumerate(seen) if one[3] == source), key=lambda at: -seen[at][2][0])
        best, others = places[: share // 3], places[share // 3 :]
        num = min(share - len(best), len(others))
        kept += [*best, *(others[number * len(others) // num] for number in range(num))]
    return sorted(kept)
