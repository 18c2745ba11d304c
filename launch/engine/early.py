"""Ending a trial before a rung has its say: where nothing that ever passed the first one began as badly, or where it
says what another trial has said.

A late first rung protects late bloomers, and pays for every hopeless trial in full. Here a trial is compared at every
epoch before the first rung with those that have passed it, as they stood at that epoch; it ends where it is worse than
all of them. The more have passed, the more kinds of beginnings are known to end well, and the fewer trials end so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

LEAST_PASSED = 4  # fewer say too little about how a good trial begins
REPEATED_EPOCHS = 3  # fewer may be alike by chance, where few images are judged

Course: TypeAlias = Sequence[tuple[float, float]]  # (position, best value so far), higher is better


@dataclass
class Beginnings:
    """factor: the best 1/factor of those that came to the first rung, or ended before it, have passed it. A trial is
    compared within its stratum alone."""

    factor: float
    arrived: dict[str, list[Course]] = field(default_factory=dict)  # by stratum, each up to the first rung
    ended: dict[str, int] = field(default_factory=dict)

    def arrive(self, course: Course, stratum: str = "") -> None:
        """Take down a trial that has come to the first rung with its latest point."""
        self.arrived.setdefault(stratum, []).append(tuple(course))

    def end(self, stratum: str = "") -> None:
        """Take down a trial that ended before it."""
        self.ended[stratum] = self.ended.get(stratum, 0) + 1

    def hopeless(self, course: Course, stratum: str = "") -> bool:
        """Whether every trial that has passed was better at this position."""
        position, best = course[-1]
        arrived = sorted(self.arrived.get(stratum, ()), key=lambda other: -other[-1][1])
        passed = arrived[: math.ceil((len(arrived) + self.ended.get(stratum, 0)) / self.factor)]
        if len(passed) < LEAST_PASSED:
            return False
        # One that showed nothing yet at this position was no better.
        then = (max((value for at, value in other if at <= position), default=-math.inf) for other in passed)
        return best < min(then)


@dataclass
class Repeats:
    """Who said first what trials say in their first epochs.

    Trials of a search share their seed. One whose every metric is another's to the last digit, epoch by epoch, is the
    same training in all that counts, and its end is known: a choice tried again, or a parameter that changes nothing.
    """

    first: dict[tuple[object, ...], str] = field(default_factory=dict)

    def repeated(self, trial_id: str, told: Sequence[object]) -> str | None:
        """The trial that said so first, if it was another one. told: what this one said in each of its epochs so far.
        Asked at each; answers at the REPEATED_EPOCHS-th."""
        if len(told) != REPEATED_EPOCHS:
            return None
        first = self.first.setdefault(tuple(told), trial_id)
        return None if first == trial_id else first
