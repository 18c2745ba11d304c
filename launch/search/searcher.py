"""Optuna as a Ray searcher: proposes configurations and tells the study how each trial truly ended.

Ray's `OptunaSearch` tells Optuna COMPLETE for a trial that ASHA stopped after one epoch. It never closes one whose
value is not a number. This searcher keeps the study in the state that the run directory has.
"""

from __future__ import annotations

import functools
import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from numpy.typing import NDArray
from ray.tune.search import Searcher
from threadpoolctl import ThreadpoolController

from launch.machines.packing import Packer
from launch.pruners.pbt import Copied, mutated
from launch.samplers.encoding import Rows
from launch.samplers.fidelity_sampler import FidelitySampler
from launch.samplers.fitting import Fitting
from launch.samplers.learned import SAME, Learned
from launch.samplers.optuna_internals import opened
from launch.samplers.proposals import GIVEN, Proposals
from launch.samplers.replay import DIRECTIONS, Replay, ended_as
from launch.samplers.samplers import build_sampler
from launch.samplers.work import Known
from launch.search.ending import Ending
from launch.search.records import Records
from launch.search.reports import end, report
from launch.trial_notes import TrialNotes
from trainables.config.io import parse_config
from visionsweep.run_dir.trials import WARM_START

if TYPE_CHECKING:
    from launch.search.settled import SettledSearch

optuna.logging.set_verbosity(optuna.logging.WARNING)  # the terminal is for the user's table

MAX_FAILURES = 10  # in a row from the start; the search ends there


class StudySearcher(Searcher):  # type: ignore[misc]
    """Searcher that proposes from an Optuna study in this process.

    A proposal is recorded before it is handed out. Recorded trials are added to the study. Interrupted ones are
    proposed again first, and resumed where they stopped.

        search      settled for its data
        records     of the run, new or resumed
        num_trials  proposals in all, None: no limit
        deadline    of `now`, after which nothing is proposed, None: no limit
        valid       raises Contradiction for a proposal whose parts exclude each other, which is then drawn anew
        now         a monotonic clock; simulations give another one
        known       see `Fitting`
        notes       what the parts of the search tell each other about trials
        packer      of trials that are packed by their memory, None means that each has resources of its own
        at_once     most trials at once, which may change as machines join and leave, None: no limit
        avoided     machines that trials proposed from now on must avoid; it may change
        folds       that a complete trial is judged on, 1 without any
        ending      ends the search by its own results, None: they do not
        learned     trials of earlier runs, as `learning.learned_from` returns them
    """

    def __init__(
        self,
        search: SettledSearch,
        records: Records,
        seed: int,
        num_trials: int | None,
        deadline: float | None,
        valid: Callable[[dict[str, Any]], object] | None = None,
        now: Callable[[], float] = time.monotonic,
        known: Known | None = None,
        notes: TrialNotes | None = None,
        packer: Packer | None = None,
        at_once: Callable[[], int] | None = None,
        avoided: Collection[str] = (),
        folds: int = 1,
        ending: Ending | None = None,
        learned: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(metric=search.metric, mode=search.mode)
        self.search = search
        self.records = records
        self.objectives = search.compared
        self.num_trials = num_trials
        self.deadline = deadline
        self.now = now
        self.fitting = Fitting(search, known, folds)
        self.stopped = False
        self.seed = seed
        self.notes = notes or TrialNotes()
        self.packer = packer
        self.at_once = at_once
        self.avoided = avoided
        self.ending = ending
        sampler = build_sampler(search, seed, len(records.trials))
        if isinstance(sampler, FidelitySampler):
            known_before = Learned.of(sampler.encoder, learned, len(search.compared))
            same = [one for one in learned if one["source"] == SAME]
            sampler.learn(known_before, Learned.of(sampler.encoder, same, len(search.compared)))
        if isinstance(sampler, FidelitySampler) and deadline is not None and self.fitting.lengths.vary:
            sampler.propose_only(self._fit)  # else there are no shorter trials to propose
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
        """Return the next trial for Ray, as `VisionTrainable` takes it.

        None means that nothing can start now. Searcher.FINISHED means that nothing more comes.
        """
        # Nothing more comes, or nothing can start now.
        if self._all_failed() or self.over() is not None:
            return str(Searcher.FINISHED)
        if not self._has_room():
            return None  # propose later, knowing what was learned until then
        # Resume an interrupted trial.
        if self.unfinished:
            record = self.unfinished.pop(0)
            self.trial_ids[trial_id] = record.trial_id
            resumed = {"trial_id": record.trial_id, "config": record.config, "resume": True}
            return self._placed({**resumed, "epochs_recorded": record.epochs_recorded})
        if self.num_trials is not None and len(self.records.trials) >= self.num_trials:
            return str(Searcher.FINISHED)
        if self.proposals.nothing_left is not None:
            return self._ends()
        if self.ending is not None and isinstance(self.study.sampler, FidelitySampler):
            self.ending.look_ahead(self.study.sampler.history)
            if self.ending.reason is not None:
                return str(Searcher.FINISHED)
        # Propose a new trial, or a copy of another one.
        number = self.records.next_number
        own_id = f"{number:04d}"
        copied = self._exploit(own_id)
        with _one_thread().limit(limits=1):
            asked = self.proposals.ask(number)
        if copied is not None and (asked is None or asked[0].params != copied.params):  # it no longer fits
            self.records.drop_state(own_id)
            copied = None
        if asked is None:
            return self._ends()
        # Record it before it is handed out.
        trial, config = asked
        origin = WARM_START if GIVEN in trial.user_attrs else "sampler"
        origin = f"copy of {copied.source}" if copied else origin
        self.records.proposed(own_id, trial.params, config, origin)
        self.trial_ids[trial_id], self.asked[own_id] = own_id, trial
        proposal = self._placed({"trial_id": own_id, "config": config, "resume": False, "origin": origin})
        return proposal if copied is None else {**proposal, "epochs_recorded": copied.epoch}

    def stop(self) -> None:
        """Propose nothing more: the user has asked to stop."""
        self.stopped = True

    def over(self) -> str | None:
        """Return why nothing more is proposed or started, None while the search continues."""
        if self.stopped:
            return "the search was asked to stop"
        if self.ending is not None and self.ending.reason is not None:
            return self.ending.reason
        return "the budget is spent" if self.deadline is not None and self.now() >= self.deadline else None

    @property
    def all_tried(self) -> str | None:
        """Why the search has ended, if every configuration was trained to its end, else None."""
        open_ones = any(trial.status in ("running", "interrupted") for trial in self.records.trials.values())
        return None if open_ones else self.proposals.nothing_left

    def _ends(self) -> str | None:
        """Return the answer to Ray if nothing can be proposed now: FINISHED, or None to be asked again.

        If all was tried, it is None while trials run. One of them may fail, and its configuration be tried once more.
        """
        waits = self.proposals.nothing_left is not None and self.trial_ids
        return None if waits else str(Searcher.FINISHED)

    def _placed(self, proposal: dict[str, Any]) -> dict[str, Any]:
        share = {} if self.packer is None else {"share": self.packer.begin(proposal["trial_id"])}
        avoid = {"avoid": sorted(self.avoided)} if self.avoided else {}
        left = {} if self.deadline is None else {"left_s": self.deadline - self.now()}
        return {**proposal, **share, **avoid, **left}

    def _exploit(self, own_id: str) -> Copied | None:
        """Return the copy that this trial is to be, None if no trial waits to be copied.

        It gets the state of the waiting trial. The study proposes that trial's parameters next, with other rates.
        """
        while self.notes.to_copy:
            source = self.records.trials[self.notes.to_copy.popleft()]
            epoch = self.records.copy_state(source.trial_id, own_id)
            if epoch is not None:  # else it has ended since
                params = mutated(self.search, source.params, random.Random(f"{self.seed} {own_id}"))
                self.study.enqueue_trial(params)
                return Copied(source.trial_id, epoch, params)
        return None

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        trial = self.asked.get(self.trial_ids[trial_id])
        if trial is not None:
            self._report(trial, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study how the trial truly ended."""
        own_id = self.trial_ids.pop(trial_id)
        if self.packer is not None:
            self.packer.ended(own_id)
        if trial_id in self.notes.not_begun:
            self.unfinished.append(self.records.trials[own_id])
            return
        trial = self.asked.pop(own_id, None)
        if trial is None:
            return
        if result is not None:
            self._report(trial, result)
        # A trial without a result was ended before it began (`starting.py`).
        status = "failed" if error else ended_as(result or {}, self.search.metric or "")
        if status == "failed":
            self.proposals.may_try_again()
        end(self.study, trial, status, self.objectives)

    def __getstate__(self) -> dict[str, object]:
        return {}  # Ray pickles searchers for its own restore; a run is resumed from its records instead

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: a run is resumed from its records."""

    def _report(self, trial: optuna.Trial, result: Mapping[str, Any]) -> None:
        report(trial, result, self.objectives, self.seconds.setdefault(trial.user_attrs["trial_id"], []))

    def _has_room(self) -> bool:
        """Whether one more trial can start."""
        if self.at_once is not None and len(self.trial_ids) >= self.at_once():
            return False
        return self.packer is None or self.packer.has_room()

    def _all_failed(self) -> bool:
        """Whether there is nothing but failures, so that the configurations are not the cause."""
        trials = self.records.trials.values()
        if any(trial.status not in ("failed", "running") for trial in trials):  # mostly decided by the first trial
            return False
        return sum(trial.status == "failed" for trial in trials) >= MAX_FAILURES

    def _fits(self, params: Mapping[str, Any]) -> bool:
        return self.deadline is None or bool(self._fit(self.fitting.encoder.encode(params)[None])[0])

    def _fit(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows (n, num_parameters) are trained in time (see `Fitting`), (n,) bool."""
        left_s = math.inf if self.deadline is None else self.deadline - self.now()
        return self.fitting.of_rows(rows, self.study.get_trials(deepcopy=False), left_s)

    def _retell(self) -> None:
        """Add the recorded trials to the study, as if this process had run from the start."""
        replay = Replay(self.search)
        for record in self.records.trials.values():
            self.study.add_trial(replay.frozen(record))
            if record.status in ("interrupted", "running"):
                self.seconds[record.trial_id] = [row["seconds"] for row in record.curve]
                self.asked[record.trial_id] = opened(self.study, self.study.get_trials(deepcopy=False)[-1])


@functools.cache
def _one_thread() -> ThreadpoolController:
    """Return what limits the threads of linear algebra.

    A proposal's matrices are small. With a thread for every core it takes three times the seconds of CPU, from trials.
    """
    return ThreadpoolController()
