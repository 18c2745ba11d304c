"""Optuna as a Ray searcher: proposes configurations and tells the study how each trial truly ended.

Ray ships `OptunaSearch`; it tells Optuna COMPLETE for a trial that ASHA stopped after one epoch, and never closes
one whose value is not a number. This one keeps the study in the state that the run directory has.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from analysis.trials import WARM_START
from launch.engine.fidelity_sampler import FidelitySampler
from launch.engine.fitting import Fitting
from launch.engine.history import EPOCH_SECONDS, INFEASIBLE, OUTCOME, by_epoch
from launch.engine.samplers import build_sampler
from launch.engine.vectors import Rows
from launch.engine.work import Known
from launch.machines.packing import Packer
from launch.population import Copied, mutated
from launch.proposals import GIVEN, Proposals
from launch.records import Records
from launch.replay import (
    DIRECTIONS,
    INFEASIBLE_STATUSES,
    STATES,
    Replay,
    ended_as,
    epoch_seconds,
)
from search_spaces.objectives import measured
from search_spaces.search import Search
from trainables.config_io import parse_config

optuna.logging.set_verbosity(optuna.logging.WARNING)  # the terminal is for the user's table

MAX_FAILURES = 10  # in a row from the start; the search ends there


class StudySearcher(Searcher):  # type: ignore[misc]
    """Proposes from an Optuna study that lives in this process.

    search: for one task, all settled. records: what was proposed is written there before it is handed out; trials
    found there are told to the study, interrupted ones are proposed again first, to go on where they stopped.
    num_trials: proposals in all, None without end. deadline: of `now`, after which nothing is proposed. valid: raises
    Contradiction for a proposal whose parts exclude each other, which is then drawn anew. now: a clock that nobody
    sets; another one for simulations.
    """

    def __init__(
        self,
        search: Search,
        records: Records,
        seed: int,
        num_trials: int | None,
        deadline: float | None,
        valid: Callable[[dict[str, Any]], object] | None = None,
        now: Callable[[], float] = time.monotonic,
        known: Known | None = None,
    ) -> None:
        super().__init__(metric=search.metric, mode=search.mode)
        self.search, self.records, self.objectives = search, records, search.compared
        self.num_trials, self.deadline, self.now = num_trials, deadline, now
        self.fitting = Fitting(search, known)
        self.stopped = False
        self.when_over: Callable[[str], object] = lambda reason: None  # ends the trials that run
        self.packer: Packer | None = None  # where trials are packed by their memory
        self.has_room: Callable[[], bool] = lambda: True  # for one more trial
        self.not_begun: Collection[str] = ()  # Ray's ids of trials whose process died before it had them (`tuning.py`)
        self.avoided: Collection[str] = ()  # machines where no trial goes that is proposed from now on
        self.seed, self.heirs = seed, deque[str]()  # trials of which copies are to be proposed (`population.py`)
        sampler = build_sampler(search, seed, len(records.trials))
        if isinstance(sampler, FidelitySampler) and deadline is not None and self.fitting.lengths.vary:
            sampler.fits = self._fit  # there are shorter ones to propose
        self.study = optuna.create_study(
            sampler=sampler,
            directions=[DIRECTIONS[objective.mode] for objective in search.compared],
        )
        self.trial_ids: dict[str, str] = {}  # Ray's id -> ours
        self.asked: dict[str, optuna.Trial] = {}  # our id -> the study's open trial
        self.seconds: dict[str, list[float]] = {}  # our id -> of its epochs
        self.unfinished = [trial for trial in records.trials.values() if trial.status in ("interrupted", "running")]
        self._retell()
        valid = valid or (lambda config: parse_config(config, "a configuration drawn from the search"))
        self.proposals = Proposals(self.study, search, records.trials, seed, valid, self._fits)
        for params in map(search.encode, search.warm_start):
            if not any(params.items() <= trial.params.items() for trial in records.trials.values()):
                self.study.enqueue_trial(params, user_attrs={GIVEN: True})

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial for Ray, as `VisionTrainable` takes it."""
        if self._hopeless() or self.over() is not None:
            return str(Searcher.FINISHED)
        if not self.has_room() or (self.packer is not None and not self.packer.has_room()):
            return None  # proposed when it can start, so that it knows what was learned until then
        if self.unfinished:
            record = self.unfinished.pop(0)
            self.trial_ids[trial_id] = record.trial_id
            gone_on = {"trial_id": record.trial_id, "config": record.config, "resume": True}
            return self._placed({**gone_on, "epochs_recorded": record.epochs_recorded})
        if self.num_trials is not None and len(self.records.trials) >= self.num_trials:
            return str(Searcher.FINISHED)
        if self.proposals.nothing_left is not None:
            return self._ends()
        number = self.records.next_number
        ours = f"{number:04d}"
        copied = self._heir(ours)
        asked = self.proposals.ask(number)
        if copied is not None and (asked is None or asked[0].params != copied.params):  # it would not fit any more
            self.records.drop_state(ours)
            copied = None
        if asked is None:
            return self._ends()
        trial, config = asked
        origin = WARM_START if GIVEN in trial.user_attrs else "sampler"
        origin = f"copy of {copied.donor}" if copied else origin
        self.records.proposed(ours, trial.params, config, origin)
        self.trial_ids[trial_id], self.asked[ours] = ours, trial
        proposal = self._placed({"trial_id": ours, "config": config, "resume": False, "origin": origin})
        return proposal if copied is None else {**proposal, "epochs_recorded": copied.epoch}

    def over(self) -> str | None:
        """Why nothing more is proposed, and nothing begun that has not been; None while the search goes on."""
        if self.stopped:
            return "the search was asked to stop"
        return "the budget is spent" if self.deadline is not None and self.now() >= self.deadline else None

    @property
    def all_tried(self) -> str | None:
        """Why the search has ended, where it did because every configuration was trained to its end."""
        open_ones = any(trial.status in ("running", "interrupted") for trial in self.records.trials.values())
        return None if open_ones else self.proposals.nothing_left

    def _ends(self) -> str | None:
        """Nothing can be proposed now. Where all was tried, one of the running trials may still fail, and its
        configuration then be tried once more."""
        waits = self.proposals.nothing_left is not None and self.trial_ids
        return None if waits else str(Searcher.FINISHED)

    def _placed(self, proposal: dict[str, Any]) -> dict[str, Any]:
        share = {} if self.packer is None else {"share": self.packer.begin(proposal["trial_id"])}
        avoid = {"avoid": sorted(self.avoided)} if self.avoided else {}
        left = {} if self.deadline is None else {"left_s": self.deadline - self.now()}
        return {**proposal, **share, **avoid, **left}

    def _heir(self, ours: str) -> Copied | None:
        """What this trial is to copy, where a trial is waiting for one: that one's state is given to it, and its
        parameters, with other rates, are what the study proposes next."""
        while self.heirs:
            donor = self.records.trials[self.heirs.popleft()]
            epoch = self.records.copy_state(donor.trial_id, ours)
            if epoch is not None:  # else it has ended since
                params = mutated(self.search, donor.params, random.Random(f"{self.seed} {ours}"))
                self.study.enqueue_trial(params)
                return Copied(donor.trial_id, epoch, params)
        return None

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        trial = self.asked.get(self.trial_ids[trial_id])
        if trial is not None:
            self._report(trial, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study how the trial truly ended."""
        ours = self.trial_ids.pop(trial_id)
        if self.packer is not None:
            self.packer.ended(ours)
        if trial_id in self.not_begun:
            self.unfinished.append(self.records.trials[ours])
            return
        trial = self.asked.pop(ours, None)
        if trial is None:
            return
        if result is not None:
            self._report(trial, result)
        # Without a result it was ended before it began (`starting.py`).
        status = "failed" if error else ended_as(result or {}, self.search.metric or "")
        if status == "failed":
            self.proposals.nothing_left = None
        if status in INFEASIBLE_STATUSES:
            trial.set_user_attr(INFEASIBLE, True)
        epochs, first = by_epoch(_frozen(trial)), self.objectives[0]
        # Interrupted: the study that goes on is a new one, where the trial runs again.
        state = STATES.get(status, TrialState.FAIL)
        if state == TrialState.COMPLETE and not epochs:  # it never had a value of the metric
            state = TrialState.FAIL
        # Of its best epoch by the first objective, the earlier one on ties.
        values = max((of for _, of in sorted(epochs.items())), key=lambda of: first.sign * of[0], default=None)
        self.study.tell(trial, values if state == TrialState.COMPLETE else None, state=state)

    def __getstate__(self) -> dict[str, object]:
        return {}  # Ray pickles searchers for its own restore; a run is resumed from its records instead

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the records are the truth."""

    def _report(self, trial: optuna.Trial, result: Mapping[str, Any]) -> None:
        if "epoch" not in result or result["epoch"] in by_epoch(_frozen(trial)):
            return
        seconds = self.seconds.setdefault(trial.user_attrs["trial_id"], [])
        seconds.append(float(result["seconds"]))
        if _frozen(trial).user_attrs.get(EPOCH_SECONDS) != (took := epoch_seconds(seconds)):
            trial.set_user_attr(EPOCH_SECONDS, took)
        values = measured(result, self.objectives)
        if values is None:
            return
        if len(values) > 1:  # Optuna's trials of several objectives take no reports
            trial.set_user_attr(f"{OUTCOME}{result['epoch']}", values)
        else:
            trial.report(values[0], step=int(result["epoch"]))

    def _hopeless(self) -> bool:
        """Nothing but failures: what is wrong is not the configurations."""
        trials = self.records.trials.values()
        if any(trial.status not in ("failed", "running") for trial in trials):  # the first trial tells, mostly
            return False
        return sum(trial.status == "failed" for trial in trials) >= MAX_FAILURES

    def _fits(self, params: Mapping[str, Any]) -> bool:
        return self.deadline is None or bool(self._fit(self.fitting.vectors.encode(params)[None])[0])

    def _fit(self, rows: Rows) -> NDArray[np.bool_]:
        """(n,) bool: which rows (n, num_parameters) are trained in time (see `Fitting`)."""
        left_s = math.inf if self.deadline is None else self.deadline - self.now()
        return self.fitting.of_rows(rows, self.study.get_trials(deepcopy=False), left_s)

    def _retell(self) -> None:
        """The study as it would stand had this process run from the start."""
        replay = Replay(self.search)
        for record in self.records.trials.values():
            self.study.add_trial(replay.frozen(record))
            if record.status in ("interrupted", "running"):
                self.seconds[record.trial_id] = [row["seconds"] for row in record.epochs]
                opened = self.study.get_trials(deepcopy=False)[-1]
                self.asked[record.trial_id] = optuna.Trial(self.study, opened._trial_id)


def _frozen(trial: optuna.Trial) -> FrozenTrial:
    return trial.study._storage.get_trial(trial._trial_id)
