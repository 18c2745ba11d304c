"""Early stopping before the first rung: dominated starts and duplicate trainings.

A late first rung protects late bloomers, but trains every hopeless trial up to it. Here a trial is compared at every
epoch before the first rung with the trials that have passed that rung, as they stood at that epoch. It is stopped if it
is worse than all of them. The more trials have passed, the more kinds of good starts are known, and the fewer trials
are stopped this way.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

LEAST_PASSED = 4  # fewer show too little of how a good trial begins
MOST_POSITIONS = 256  # positions in epochs are few; in seconds no two are the same
REPEATED_EPOCHS = 3  # fewer may coincide where few images are evaluated

Course: TypeAlias = Sequence[tuple[float, float]]  # (position, best value so far), higher is better


@dataclass
class _Stratum:
    """The trials of one stratum that came to the first rung, and how many ended before it.

    arrived  their curves, the best at the first rung first
    ended    trials that ended before the first rung
    then     the value of each arrived trial, by position: a cache, so that large searches do not recompute them
    """

    arrived: list[Course] = field(default_factory=list)
    ended: int = 0
    then: dict[float, list[float]] = field(default_factory=dict, compare=False)

    def insert(self, course: Course) -> None:
        place = bisect_right(self.arrived, -course[-1][1], key=lambda other: -other[-1][1])
        self.arrived.insert(place, course)
        for position, values in self.then.items():
            values.insert(place, _shown(course, position))

    def at(self, position: float) -> list[float]:
        if position in self.then:
            return self.then[position]
        values = [_shown(course, position) for course in self.arrived]
        if len(self.then) < MOST_POSITIONS:
            self.then[position] = values
        return values


def _shown(course: Course, position: float) -> float:
    """Return the best value up to a position, minus infinity where there was none yet."""
    return max((value for at, value in course if at <= position), default=-math.inf)


@dataclass
class DominatedStarts:
    """Curves of trials before the first rung, to stop a trial whose start is dominated by all that passed it.

    A trial is compared within its stratum alone.

        factor  the best 1/factor of the trials that came to the first rung, or ended before it, have passed it
        strata  trials by stratum
    """

    factor: float
    strata: defaultdict[str, _Stratum] = field(default_factory=lambda: defaultdict(_Stratum))

    def arrive(self, course: Course, stratum: str = "") -> None:
        """Record a trial that has come to the first rung with its latest point."""
        self.strata[stratum].insert(tuple(course))

    def end(self, stratum: str = "") -> None:
        """Record a trial that ended before the first rung."""
        self.strata[stratum].ended += 1

    def is_dominated(self, course: Course, stratum: str = "") -> bool:
        """Return whether every trial that passed the first rung was better at this position."""
        known, (position, best) = self.strata[stratum], course[-1]
        passed = min(math.ceil((len(known.arrived) + known.ended) / self.factor), len(known.arrived))
        return passed >= LEAST_PASSED and best < min(known.at(position)[:passed])


@dataclass
class DuplicateTrials:
    """Detection of duplicate trainings by their metrics in the first epochs.

    Trials of a search share their seed. If every metric of two trials is identical to the last digit, epoch by epoch,
    they are the same training. They differ only in a parameter without effect. So the later one needs no further
    epochs.
    """

    first: dict[tuple[object, ...], str] = field(default_factory=dict)

    def duplicate_of(self, trial_id: str, metrics: Sequence[object]) -> str | None:
        """Return the id of an earlier trial whose first REPEATED_EPOCHS epochs have identical metrics, else None.

        Called at each epoch, but the comparison is made once, at the REPEATED_EPOCHS-th.

            metrics  the metrics of each epoch of this trial so far
        """
        if len(metrics) != REPEATED_EPOCHS:
            return None
        first = self.first.setdefault(tuple(metrics), trial_id)
        return None if first == trial_id else first
