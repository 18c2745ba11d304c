"""Optuna as a Ray searcher: proposes configurations and tells the study how each trial truly ended.

Ray ships `OptunaSearch`; it tells Optuna COMPLETE for a trial that ASHA stopped after one epoch, and never closes
one whose value is not a number. This one keeps the study in the state that the run directory has.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.search import Searcher

from analysis.load import Trial
from launch.records import Records
from search_spaces.errors import ConfigError, Contradiction
from search_spaces.search import Search
from trainables.config_io import parse_config

optuna.logging.set_verbosity(optuna.logging.WARNING)  # the terminal is for the user's table

MAX_FAILURES = 10  # in a row from the start; the search ends there

# What a study calls the ways in which a trial can end. `interrupted` trials are not told: they may go on.
STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "diverged": TrialState.FAIL,
    "oom": TrialState.FAIL,
}


def build_sampler(seed: int) -> optuna.samplers.BaseSampler:
    """TPE over the joint conditional space, with running trials taken into account (constant liar)."""
    # `group` splits a conditional space into the sets of parameters that occur together, which `multivariate`
    # needs to model them jointly; both are marked experimental in Optuna and have been stable for years.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


class StudySearcher(Searcher):  # type: ignore[misc]
    """Proposes from an Optuna study that lives in this process.

    search: for one task, all settled. records: what was proposed is written there before it is handed out; trials
    found there are told to the study, interrupted ones are proposed again first, to go on where they stopped.
    num_trials: proposals in all, None without end. deadline: seconds since the Unix epoch after which nothing is
    proposed.
    """

    def __init__(
        self, search: Search, records: Records, seed: int, num_trials: int | None, deadline: float | None
    ) -> None:
        super().__init__(metric=search.metric, mode=search.mode)
        self.search, self.records = search, records
        self.num_trials, self.deadline = num_trials, deadline
        self.stopped = False
        self.study = optuna.create_study(
            sampler=build_sampler(seed + len(records.trials)),
            direction="maximize" if search.mode == "max" else "minimize",
        )
        self.trial_ids: dict[str, str] = {}  # Ray's id -> ours
        self.asked: dict[str, optuna.Trial] = {}  # our id -> the study's open trial
        self.unfinished = [trial for trial in records.trials.values() if trial.status in ("interrupted", "running")]
        self._retell()
        for config in search.warm_start[len(records.trials) :]:
            self.study.enqueue_trial(search.encode(config))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial for Ray, as `VisionTrainable` takes it."""
        if self.stopped or self._hopeless() or (self.deadline is not None and time.time() >= self.deadline):
            return str(Searcher.FINISHED)
        if self.unfinished:
            record = self.unfinished.pop(0)
            self.trial_ids[trial_id] = record.trial_id
            recorded = max((row["epoch"] for row in record.epochs), default=0)
            return {"trial_id": record.trial_id, "config": record.config, "resume": True, "epochs_recorded": recorded}
        if self.num_trials is not None and len(self.records.trials) >= self.num_trials:
            return str(Searcher.FINISHED)
        ours = f"{len(self.records.trials):04d}"
        trial, config = self._ask_valid()
        origin = "warm_start" if int(ours) < len(self.search.warm_start) else "sampler"
        self.records.proposed(ours, trial.params, config, origin)
        self.trial_ids[trial_id], self.asked[ours] = ours, trial
        return {"trial_id": ours, "config": config, "resume": False}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        trial = self.asked.get(self.trial_ids[trial_id])
        if trial is not None:
            self._report(trial, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study. A trial that Ray ends while it says `running` was pruned."""
        ours = self.trial_ids.pop(trial_id)
        trial = self.asked.pop(ours, None)
        if trial is None:
            return
        if result is not None:
            self._report(trial, result)
        status = "failed" if error or result is None else str(result["status"])
        status = "pruned" if status == "running" else status
        if status == "interrupted":
            return
        values = [value for _, value in sorted(_intermediate(trial).items())]
        state = STATES[status] if values or status != "complete" else TrialState.FAIL
        self.study.tell(trial, _best(values, self.search.mode) if state == TrialState.COMPLETE else None, state=state)

    def __getstate__(self) -> dict[str, object]:
        return {}  # Ray pickles searchers for its own restore; a run is resumed from its records instead

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the records are the truth."""

    def _report(self, trial: optuna.Trial, result: Mapping[str, Any]) -> None:
        value = result.get(self.search.metric or "")
        if value is not None and "epoch" in result and result["epoch"] not in _intermediate(trial):
            trial.report(float(value), step=int(result["epoch"]))

    def _hopeless(self) -> bool:
        """Nothing but failures: what is wrong is not the configurations."""
        ended = [trial.status for trial in self.records.trials.values() if trial.status != "running"]
        return len(ended) >= MAX_FAILURES and set(ended) == {"failed"}

    def _ask_valid(self) -> tuple[optuna.Trial, dict[str, Any]]:
        """A proposal that makes a valid configuration; ranges that contradict each other may need several."""
        problem: Contradiction | None = None
        for _ in range(100):
            trial = self.study.ask()
            config = self.search.draw(trial)
            try:
                parse_config(config, "a configuration drawn from the search")
            except Contradiction as error:
                problem = error
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                return trial, config
        assert problem is not None
        raise ConfigError(f"a hundred configurations in a row were not valid; the last one: {problem}")

    def _retell(self) -> None:
        """The study as it would stand had this process run from the start."""
        distributions = _Distributions()
        for record in self.records.trials.values():
            self.search.draw(distributions.following(record.params))
            frozen = self._frozen(record, distributions.found)
            if frozen is not None:
                self.study.add_trial(frozen)
                if record.status in ("interrupted", "running"):
                    self.asked[record.trial_id] = optuna.Trial(
                        self.study, self.study.get_trials(deepcopy=False)[-1]._trial_id
                    )

    def _frozen(self, record: Trial, known: Mapping[str, BaseDistribution]) -> FrozenTrial | None:
        params = {name: value for name, value in record.params.items() if name in known}
        values = record.values(self.search.metric or "")
        best = record.best(self.search.metric or "", self.search.mode or "max")
        state = STATES.get(record.status, TrialState.RUNNING)
        if state == TrialState.COMPLETE and best is None:
            state = TrialState.FAIL
        return create_trial(
            state=state,
            value=best[0] if best and state == TrialState.COMPLETE else None,
            params=params,
            distributions={name: known[name] for name in params},
            intermediate_values=values,
        )


class _Distributions:
    """A stand-in for a trial that replays recorded values and notes the ranges they came from."""

    def __init__(self) -> None:
        self.values: Mapping[str, Any] = {}
        self.found: dict[str, BaseDistribution] = {}

    def following(self, values: Mapping[str, Any]) -> _Distributions:
        self.values, self.found = values, {}
        return self

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.found[name] = optuna.distributions.FloatDistribution(low, high, log=log, step=step)
        return float(self.values.get(name, low))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.found[name] = optuna.distributions.IntDistribution(low, high, log=log, step=step)
        return int(self.values.get(name, low))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.found[name] = optuna.distributions.CategoricalDistribution(choices)
        return self.values.get(name, choices[0])


def _intermediate(trial: optuna.Trial) -> dict[int, float]:
    return trial.study._storage.get_trial(trial._trial_id).intermediate_values


def _best(values: list[float], mode: str | None) -> float:
    return max(values) if mode == "max" else min(values)
