"""A study's next proposals: valid, within the budget, and not tried before."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import optuna
from optuna.trial import TrialState

from launch.samplers.fidelity_sampler import FidelitySampler
from launch.samplers.history import TRIAL_ID
from launch.samplers.tried import Tried
from search_spaces.search import Search
from visionsweep.core.errors import ConfigError, Contradiction
from visionsweep.run_dir.trials import Trials

GIVEN = "warm_start"  # an attribute of the study's trials that the search itself gave
MAX_ATTEMPTS = 100  # at a proposal whose parts do not contradict each other
MAX_REPEATS = 4  # proposals that were tried before, after which an untried one is drawn
MAX_UNTRIED = 100  # draws of untried ones, for one that fits into the budget

Asked: TypeAlias = tuple[optuna.Trial, dict[str, Any]]


class Proposals:
    """Requests to a study, until it proposes something that can be trained.

    `nothing_left` says why no proposal can come any more. It is None while one can.

        trials  of the run, as they stand at any time
        valid   raises Contradiction for a proposal whose parts exclude each other
        fits    whether flat parameters still fit into the budget
    """

    def __init__(
        self,
        study: optuna.Study,
        search: Search,
        trials: Trials,
        seed: int,
        valid: Callable[[dict[str, Any]], object],
        fits: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        self.study = study
        self.search = search
        self.trials = trials
        self.seed = seed
        self.valid = valid
        self.fits = fits
        self.tried = Tried(search, trials, valid)
        # A copy may repeat a configuration, as it starts from another trial's weights.
        self.may_repeat = search.pruner == "pbt"
        self.nothing_left: str | None = None
        self.waiting: list[dict[str, Any]] = []  # warm starts that did not fit when their turn came

    def ask(self, number: int) -> Asked | None:
        """Return trial `number` and its configuration, None if nothing fits any more or nothing is left.

        Raises ConfigError if every proposal contradicts itself.
        """
        problem: Contradiction | None = None
        repeats = 0
        too_long = False
        for attempt in range(MAX_ATTEMPTS):
            if isinstance(self.study.sampler, FidelitySampler):
                # Seed by what the records know. The study's own numbers count attempts that a rebuilt study never sees.
                self.study.sampler.begin(number, attempt, self.tried.spent() if not self.may_repeat else frozenset())
            chosen = None
            again = False
            # After several repeats, or half of the attempts, choose an untried configuration. A sampler that is sure of
            # itself asks for the same again, and random draws alone miss the last ones.
            if repeats >= MAX_REPEATS or (attempt >= MAX_ATTEMPTS // 2 and not self.may_repeat):
                chosen = self._untried(random.Random(f"{self.seed} {number} {attempt}"))
                if chosen is not None and not self.fits(chosen):
                    return None  # nor does any other of many draws
                if chosen is None:
                    chosen = self.tried.failed_once(self.trials)
                    again = chosen is not None
                if chosen is None and self.tried.known:
                    self.nothing_left = self.tried.all_were
                    return None
                if chosen is None:
                    break
                self.study.enqueue_trial(chosen)
            self._enqueue_what_fits_now()
            trial = self.study.ask()
            config = self.search.draw(trial)
            again = again and trial.params == chosen  # a warm start may stand before it in the queue
            if config in self.tried and not (again or self.may_repeat):
                repeats += 1
            else:
                try:
                    self.valid(config)
                except Contradiction as error:
                    problem = error
                else:
                    if self.fits(trial.params):
                        trial.set_user_attr(TRIAL_ID, f"{number:04d}")
                        self.tried.add(config)
                        return trial, config
                    too_long = True
                    if GIVEN in trial.user_attrs:
                        self.waiting.append(trial.params)
            self.study.tell(trial, state=TrialState.FAIL)
            if too_long and isinstance(self.study.sampler, FidelitySampler) and self.study.sampler.nothing_fits:
                return None  # a hundred attempts would take seconds of what is left
        if problem is None or too_long:
            return None
        raise ConfigError(f"a hundred configurations in a row were not valid; the last one: {problem}")

    def may_try_again(self) -> None:
        """Hear that a trial has failed: its configuration may be tried once more."""
        self.nothing_left = None

    def _enqueue_what_fits_now(self) -> None:
        """Propose a warm start after all, where it has become cheaper: another trial has kept its features, or taught
        that such trials take less time than was expected."""
        for params in [params for params in self.waiting if self.fits(params)]:
            self.waiting.remove(params)
            self.study.enqueue_trial(params, user_attrs={GIVEN: True})

    def _untried(self, chance: random.Random) -> dict[str, Any] | None:
        """Return flat parameters that were never proposed, None if none are left.

        They fit if any of MAX_UNTRIED draws does.
        """
        for _ in range(MAX_UNTRIED):
            chosen = self.tried.untried(chance)
            if chosen is None or self.fits(chosen):
                return chosen
        return chosen
