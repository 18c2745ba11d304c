"""The configurations that a search has tried: none is trained twice.

Trials of a search share their seed, so the same configuration gives the same numbers again. This also holds for trials
that were pruned, diverged or ran out of memory. A trial that failed once may owe that to its machine. Its configuration
is tried again when nothing else is left.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import optuna

from search_spaces.finite import configuration, configurations, drawn_as, identity, num_configurations
from search_spaces.grammar import REGIME, draw
from search_spaces.regimes import regimes_of, wholes
from search_spaces.search import Search
from trainables.config.io import parse_config
from visionsweep.core.errors import Contradiction
from visionsweep.run_dir.trials import Trial, Trials

MOST_CHECKED = 5000  # self-contradicting configurations, before a finite space is given up
MOST_LISTED = 300  # configurations of a regime
MOST_DRAWN = 500  # draws from an infinite space, whose finite part may be exhausted


class Tried:
    """The configurations that a search has proposed, as a set.

    search  the search
    trials  of its run
    valid   raises Contradiction for a configuration whose parts exclude each other
    """

    def __init__(self, search: Search, trials: Trials, valid: Callable[[dict[str, Any]], object]) -> None:
        self.space = search.full_space
        self.valid = valid
        self.total = num_configurations(self.space)
        self.known = {identity(trial.config) for trial in trials.values()}
        self.impossible: set[str] = set()  # they contradict themselves
        self._left: dict[str, set[str]] | None = None  # of the regimes that have few configurations, what was left
        self.gave_up = self.total is None  # whether `untried` may have missed one

    def __contains__(self, config: dict[str, Any]) -> bool:
        return identity(config) in self.known

    def add(self, config: dict[str, Any]) -> None:
        self.known.add(identity(config))

    def spent(self) -> frozenset[str]:
        """Return the regimes of which every valid configuration was proposed."""
        if self._left is None:
            self._left = {name: set(map(identity, filter(self._is_new, configs))) for name, configs in self._few()}
        return frozenset(name for name, left in self._left.items() if left <= self.known)

    def untried(self, chance: random.Random) -> dict[str, Any] | None:
        """Return the flat parameters of a valid configuration that was never proposed, or None if none was found.

        It is drawn evenly among all of them.
        """
        if self.total is None:
            return self._drawn(chance)
        # A random start and a coprime stride visit every number once, in an order that needs no list.
        start = chance.randrange(self.total)
        stride = _coprime(self.total, chance)
        before = len(self.impossible)
        for step in range(self.total):
            params = configuration(self.space, (start + step * stride) % self.total)
            config = drawn_as(self.space, params)
            if self._is_new(config):
                return params
            self.gave_up = len(self.impossible) - before >= MOST_CHECKED
            if self.gave_up:
                return None
        return None

    def failed_once(self, trials: Trials) -> dict[str, Any] | None:
        """Return the flat parameters of the first configuration whose only trial failed, None where there is none."""
        by_config: dict[str, list[Trial]] = {}
        for trial in trials.values():
            by_config.setdefault(identity(trial.config), []).append(trial)
        failed = (of[0].params for of in by_config.values() if len(of) == 1 and of[0].status == "failed")
        return next(failed, None)

    @property
    def all_were(self) -> str:
        """The reason why the search ends, once `untried` has found nothing."""
        if self.gave_up:
            most = MOST_DRAWN if self.total is None else MOST_CHECKED
            return f"{most} random configurations were tried before, or contradict themselves"
        number = len(self.known)
        return f"all {number} configurations were tried" if number > 1 else "the only configuration was tried"

    def _is_new(self, config: dict[str, Any]) -> bool:
        name = identity(config)
        if name in self.known or name in self.impossible:
            return False
        try:
            self.valid(config)
        except Contradiction:
            self.impossible.add(name)
            return False
        return True

    def _few(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        for whole in wholes(self.space) if regimes_of(self.space) else ():
            count = num_configurations(whole)
            if count is not None and count <= MOST_LISTED:
                yield whole[REGIME], configurations(whole)

    def _drawn(self, chance: random.Random) -> dict[str, Any] | None:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=chance.randrange(2**31)))
        for _ in range(MOST_DRAWN):
            trial = study.ask()
            if self._is_new(draw(self.space, trial)):
                return dict(trial.params)
        return None


def nothing_left(search: Search, trials: Trials) -> str | None:
    """Return why a run has nothing more to try, None where it has. Reads the records alone."""
    if search.pruner == "pbt" or any(trial.status in ("running", "interrupted") for trial in trials.values()):
        return None
    total = num_configurations(search.full_space)
    if total is None or total > max(MOST_CHECKED, len(trials)):
        return None  # the searcher finds out if the trials have exhausted so large a space
    tried = Tried(search, trials, lambda config: parse_config(config, "a configuration of the space"))
    is_left = tried.untried(random.Random(0)) is not None or tried.failed_once(trials) is not None
    return None if is_left or tried.gave_up else tried.all_were


def _coprime(total: int, chance: random.Random) -> int:
    while True:
        stride = chance.randrange(1, total + 1)
        if math.gcd(stride, total) == 1:
            return stride
