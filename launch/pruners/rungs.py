"""The rungs of ASHA as a pure table: scripted values in, decisions out (Li et al. 2018, arXiv:1810.05934).

What ASHA leaves open is settled here:

- A trial is among the values that it is compared with, so the first to arrive is promoted.
- Trials of equal value are promoted together.
- A trial is compared within its stratum, such as models of similar cost. While a stratum is small, all trials count.
- A trial that would stop is promoted if its extrapolated curve would be the best at the next rung.
- A trial from a warm start counts only if the search's own trials would let it pass. Otherwise a bad warm start would
  let one more of the others pass at every rung. This holds with several objectives too.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from visionsweep.core.pareto import fronts

DECAY = 0.5
MAX_COMPARED = 300  # of several objectives: keeps a decision at some milliseconds


@dataclass
class Rungs:
    """Promotion by one objective: a trial stops unless it is among the best 1/factor of those that came to a rung.

    milestones       rising, in epochs, seconds or any other unit
    factor           above 1
    values           recorded values by (milestone, stratum), rising; higher is better
    from_warm_start  likewise, of a warm start's trials
    """

    milestones: Sequence[float]
    factor: float
    values: dict[tuple[float, str], list[float]] = field(default_factory=dict)
    from_warm_start: dict[tuple[float, str], list[float]] = field(default_factory=dict)

    def record(self, milestone: float, value: float, stratum: str = "", from_warm_start: bool = False) -> None:
        """Record a trial's value at a milestone without a decision, as for resumed trials. from_warm_start: from a
        warm start."""
        table = self.from_warm_start if from_warm_start else self.values
        for group in {stratum, ""}:
            bisect.insort(table.setdefault((milestone, group), []), value)

    def promote(
        self,
        milestone: float,
        value: float,
        stratum: str = "",
        rising_to: float | None = None,
        from_warm_start: bool = False,
    ) -> bool:
        """Record a value and return whether the trial is promoted.

            milestone        where the value was reached
            value            higher is better
            stratum          trials to compare with; '' means all
            rising_to        the curve extrapolated to the next milestone, None where that is not known
            from_warm_start  whether the trial comes from a warm start

        A trial below the bar is promoted too if `rising_to` exceeds all values at the next milestone, of which at least
        `factor` must be known.
        """
        self.record(milestone, value, stratum, from_warm_start)
        if self._among_best(milestone, value, stratum):
            return True
        later = [at for at in self.milestones if at > milestone]
        if rising_to is None or not later or len(self._group(later[0], stratum)) < self.factor:
            return False
        return rising_to > self._group(later[0], stratum)[-1]

    def promotion_threshold(self, milestone: float, stratum: str = "") -> float | None:
        """Return the value that a trial needs at a milestone now, or None before the first arrival."""
        return self._bar(self._group(milestone, stratum))

    def _among_best(self, milestone: float, value: float, stratum: str) -> bool:
        least = self.promotion_threshold(milestone, stratum)
        return least is None or value >= least

    def _bar(self, group: Sequence[float]) -> float | None:
        return group[-math.ceil(len(group) / self.factor)] if group else None

    def _group(self, milestone: float, stratum: str) -> list[float]:
        own = self.values.get((milestone, stratum), [])
        if len(own) < 2 * self.factor:
            own = self.values.get((milestone, ""), [])
            stratum = ""
        warm = self.from_warm_start.get((milestone, stratum), [])
        bar = self._bar(own)
        return sorted([*own, *(value for value in warm if bar is None or value >= bar)]) if warm else own


@dataclass
class ParetoRungs:
    """Promotion by several objectives: a trial stops unless its Pareto front is among those of the best 1/factor.

    Trials of one front are promoted together, as equals are. At equal epochs this found better fronts than a choice
    within a front by how isolated its trials are. Curves are not extrapolated.

        milestones       rising, in epochs, seconds or any other unit
        factor           above 1
        values           (m,) of each trial by (milestone, stratum), in the order of arrival; higher is better
        from_warm_start  likewise, of a warm start's trials
    """

    milestones: Sequence[float]
    factor: float
    values: dict[tuple[float, str], list[Sequence[float]]] = field(default_factory=dict)
    from_warm_start: dict[tuple[float, str], list[Sequence[float]]] = field(default_factory=dict)

    def promote(
        self, milestone: float, values: Sequence[float], stratum: str = "", from_warm_start: bool = False
    ) -> bool:
        """Record a trial's values, and return whether it is promoted among the latest MAX_COMPARED at the milestone."""
        table = self.from_warm_start if from_warm_start else self.values
        for group in {stratum, ""}:
            table.setdefault((milestone, group), []).append(values)
        if len(self.values.get((milestone, stratum), [])) < 2 * self.factor:
            stratum = ""
        own = self.values.get((milestone, stratum), [])[-MAX_COMPARED:]
        front = fronts([*own, *self.from_warm_start.get((milestone, stratum), [])])
        of_own, of_warm_start = np.split(front, [len(own)])
        counted = np.concatenate([of_own, of_warm_start[of_warm_start <= self._bar(of_own)]]) if own else of_warm_start
        return bool((of_warm_start if from_warm_start else of_own)[-1] <= self._bar(counted))

    def _bar(self, front: NDArray[np.int_]) -> int:
        return int(np.sort(front)[math.ceil(len(front) / self.factor) - 1])


def extrapolate(values: Sequence[tuple[float, float]], to: float) -> float | None:
    """Return the value of a curve of (position, value) extrapolated to `to`, or None if it is too short or falls.

    Each doubling of the position is taken to bring half of what the last one did. Learning curves rise with the
    logarithm of their length for a while, then less (Domhan et al. 2015 fit families of them).
    """
    if len(values) < 2:
        return None
    now, value = values[-1]
    before = [pair for pair in values if pair[0] <= now / 2] or [values[0]]
    then, old = before[-1]
    if not 0 < then < now or value <= old:
        return None
    return value + DECAY * (value - old) * math.log(to / now) / math.log(now / then)
