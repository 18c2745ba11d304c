"""Ending a trial before a rung has its say: where nothing that ever passed the first one began as badly, or where it
says what another trial has said.

A late first rung protects late bloomers, and pays for every hopeless trial in full. Here a trial is compared at every
epoch before the first rung with those that have passed it, as they stood at that epoch; it ends where it is worse than
all of them. The more have passed, the more kinds of beginnings are known to end well, and the fewer trials end so.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

LEAST_PASSED = 4  # fewer say too little about how a good trial begins
MOST_POSITIONS = 256  # positions in epochs are few; in seconds no two are the same
REPEATED_EPOCHS = 3  # fewer may be alike by chance, where few images are judged

Course: TypeAlias = Sequence[tuple[float, float]]  # (position, best value so far), higher is better


@dataclass
class _Stratum:
    """arrived: the best at the first rung first. then: by position, what each of them had shown there, so that a large
    search need not look at all of them anew."""

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
    """One that showed nothing yet at this position was no better than any."""
    return max((value for at, value in course if at <= position), default=-math.inf)


@dataclass
class Beginnings:
    """factor: the best 1/factor of those that came to the first rung, or ended before it, have passed it. A trial is
    compared within its stratum alone."""

    factor: float
    strata: defaultdict[str, _Stratum] = field(default_factory=lambda: defaultdict(_Stratum))

    def arrive(self, course: Course, stratum: str = "") -> None:
        """Take down a trial that has come to the first rung with its latest point."""
        self.strata[stratum].insert(tuple(course))

    def end(self, stratum: str = "") -> None:
        """Take down a trial that ended before it."""
        self.strata[stratum].ended += 1

    def hopeless(self, course: Course, stratum: str = "") -> bool:
        """Whether every trial that has passed was better at this position."""
        known, (position, best) = self.strata[stratum], course[-1]
        passed = min(math.ceil((len(known.arrived) + known.ended) / self.factor), len(known.arrived))
        return passed >= LEAST_PASSED and best < min(known.at(position)[:passed])


@dataclass
class Repeats:
    """Who said first what trials say in their first epochs.

    Trials of a search share their seed. One whose every metric is another's to the last digit, epoch by epoch, is the
    same training in all that counts, and its end is known: they differ in a parameter that changes nothing.
    """

    first: dict[tuple[object, ...], str] = field(default_factory=dict)

    def repeated(self, trial_id: str, told: Sequence[object]) -> str | None:
        """The trial that said so first, if it was another one. told: what this one said in each of its epochs so far.
        Asked at each; answers at the REPEATED_EPOCHS-th."""
        if len(told) != REPEATED_EPOCHS:
            return None
        first = self.first.setdefault(tuple(told), trial_id)
        return None if first == trial_id else first
