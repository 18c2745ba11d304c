"""The rungs of ASHA as a pure table: scripted values in, decisions out (Li et al. 2018, arXiv:1810.05934).

What ASHA leaves open is settled here:
- a trial is among the values that it is compared with, so the first to arrive goes on;
- trials of equal value go on together;
- a trial is compared within its stratum (such as models of like cost), and with all as long as that is small;
- one that would stop goes on when its curve, carried on as it rises, would be the best of the next rung;
- a trial from a warm start is counted only where it is among the best of the search's own: a bad one would let one more
  of the others go on, at every rung (so too by several objectives).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.pareto import fronts

FADING = 0.5
MAX_COMPARED = 300  # of several objectives: keeps a decision at some milliseconds


@dataclass
class Rungs:
    """A trial stops at a rung unless it is among the best 1/factor of those that came there.

    milestones: rising; in epochs, seconds or whatever the caller counts. factor: above 1. Values: higher is better.
    """

    milestones: Sequence[float]
    factor: float
    values: dict[tuple[float, str], list[float]] = field(default_factory=dict)  # by (milestone, stratum), rising
    given: dict[tuple[float, str], list[float]] = field(default_factory=dict)  # likewise, of a warm start's trials

    def record(self, milestone: float, value: float, stratum: str = "", given: bool = False) -> None:
        """Take down what a trial had at a milestone, without asking: of a run that is gone on with. given: by a warm
        start."""
        table = self.given if given else self.values
        for group in {stratum, ""}:
            bisect.insort(table.setdefault((milestone, group), []), value)

    def goes_on(
        self,
        milestone: float,
        value: float,
        stratum: str = "",
        rising_to: float | None = None,
        given: bool = False,
    ) -> bool:
        """Record the value and decide. rising_to: what it would have at the next milestone, carried on as it rises."""
        self.record(milestone, value, stratum, given)
        if self._among_best(milestone, value, stratum):
            return True
        later = [at for at in self.milestones if at > milestone]
        if rising_to is None or not later or len(self._group(later[0], stratum)) < self.factor:
            return False
        return rising_to > self._group(later[0], stratum)[-1]

    def worst_that_goes_on(self, milestone: float, stratum: str = "") -> float | None:
        """The value that has to be reached there by now; None where nobody came yet."""
        return self._bar(self._group(milestone, stratum))

    def _among_best(self, milestone: float, value: float, stratum: str) -> bool:
        least = self.worst_that_goes_on(milestone, stratum)
        return least is None or value >= least

    def _bar(self, group: Sequence[float]) -> float | None:
        return group[-math.ceil(len(group) / self.factor)] if group else None

    def _group(self, milestone: float, stratum: str) -> list[float]:
        own = self.values.get((milestone, stratum), [])
        if len(own) < 2 * self.factor:
            own, stratum = self.values.get((milestone, ""), []), ""
        given, bar = self.given.get((milestone, stratum), []), self._bar(own)
        return sorted([*own, *(value for value in given if bar is None or value >= bar)]) if given else own


@dataclass
class ParetoRungs:
    """The same by several objectives: a trial stops unless its Pareto front is among those that the best 1/factor are
    of. Trials of one front go on together, as equals do: at equal epochs that found better fronts than to choose among
    them by how alone they stand. Late bloomers are not looked for. Values: (m,), higher is better.
    """

    milestones: Sequence[float]
    factor: float
    values: dict[tuple[float, str], list[Sequence[float]]] = field(default_factory=dict)  # in the order of arrival
    given: dict[tuple[float, str], list[Sequence[float]]] = field(default_factory=dict)  # likewise, of a warm start's

    def goes_on(self, milestone: float, values: Sequence[float], stratum: str = "", given: bool = False) -> bool:
        """Record the values and decide, among the latest MAX_COMPARED that came there."""
        table = self.given if given else self.values
        for group in {stratum, ""}:
            table.setdefault((milestone, group), []).append(values)
        if len(self.values.get((milestone, stratum), [])) < 2 * self.factor:
            stratum = ""
        own = self.values.get((milestone, stratum), [])[-MAX_COMPARED:]
        front = fronts([*own, *self.given.get((milestone, stratum), [])])
        of_own, of_given = np.split(front, [len(own)])
        counted = np.concatenate([of_own, of_given[of_given <= self._bar(of_own)]]) if own else of_given
        return bool((of_given if given else of_own)[-1] <= self._bar(counted))

    def _bar(self, front: NDArray[np.int_]) -> int:
        return int(np.sort(front)[math.ceil(len(front) / self.factor) - 1])


def carried_on(values: Sequence[tuple[float, float]], to: float) -> float | None:
    """Where a curve of (position, value) would be at `to`, if each doubling brought half of what the last one did.

    Learning curves rise with the logarithm of their length for a while, then less (Domhan et al. 2015 fit families of
    them). None for a curve that is too short to say, or falls.
    """
    if len(values) < 2:
        return None
    now, value = values[-1]
    before = [pair for pair in values if pair[0] <= now / 2] or [values[0]]
    then, old = before[-1]
    if not 0 < then < now or value <= old:
        return None
    return value + FADING * (value - old) * math.log(to / now) / math.log(now / then)
