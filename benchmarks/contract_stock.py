"""Ray's OptunaSearch for `searcher_contract.py`, with its study in memory or in a journal file."""

from __future__ import annotations

import itertools
import logging
import pickle
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.contract_adapters import EPOCHS, METRIC, SEED, SPACE
from benchmarks.peers import distributions
from benchmarks.simulate_ray import RayTrial

logging.getLogger("ray.tune.search.optuna.optuna_search").setLevel(logging.ERROR)  # it logs every refusal of Optuna's
_folders = itertools.count()


class Stock:
    """OptunaSearch and AsyncHyperBandScheduler around a function that reports every epoch and ends at NaN.

    The function's last result comes once more when it returns. A study in memory is in the snapshot, unlike that of
    StoredStock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / f"search-{next(_folders)}"
        self.searcher = OptunaSearch(
            distributions(SPACE), metric=METRIC, mode="max", seed=SEED, storage=self._storage(), study_name="search"
        )
        self.scheduler = self._scheduler()
        self.running: dict[str, RayTrial] = {}
        self.names: list[str] = []

    @property
    def study(self) -> optuna.Study:
        found: optuna.Study = self.searcher._ot_study
        return found

    def start(self, name: str) -> dict[str, Any]:
        params: dict[str, Any] = self.searcher.suggest(name)
        self._add(name, params)
        self.names.append(name)
        return params

    def epoch(self, name: str, epoch: int, value: float) -> bool:
        trial = self.running[name]
        trial.epoch = epoch
        trial.last_result = {"trial_id": name, "training_iteration": epoch, METRIC: value}
        continues = self.scheduler.on_trial_result(None, trial, trial.last_result) == TrialScheduler.CONTINUE
        if continues:
            self.searcher.on_trial_result(name, trial.last_result)
        return bool(continues) and epoch < EPOCHS

    def end(self, name: str) -> None:
        trial = self.running.pop(name)
        self.scheduler.on_trial_complete(None, trial, trial.last_result)
        self.searcher.on_trial_complete(name, trial.last_result)

    def fail(self, name: str) -> None:
        self.scheduler.on_trial_error(None, self.running.pop(name))
        self.searcher.on_trial_complete(name, error=True)

    def out_of_memory(self, name: str) -> None:
        self.fail(name)  # the function raises

    def spend_budget(self) -> None:
        self.running.clear()  # Ray stops the trials (`_stop_experiment_if_needed`) without notice to the searcher

    def trial(self, name: str) -> FrozenTrial:
        number: int = self.searcher._ot_trials[name].number
        return self.study.trials[number]

    def infeasible(self, name: str) -> bool:
        trial = self.trial(name)
        return bool(trial.user_attrs) or "constraints" in trial.system_attrs

    def snapshot(self) -> None:
        """Write what Ray writes at most every ten seconds: the searcher's state and that of every trial."""
        self.searcher.save(str(self.place))
        state = {"running": {name: trial.epoch for name, trial in self.running.items()}, "names": self.names}
        self.place.with_suffix(".trials").write_bytes(pickle.dumps(state))

    def killed(self) -> Stock:
        again = type(self)(self.folder)
        again.searcher.restore(str(self.place))
        state = pickle.loads(self.place.with_suffix(".trials").read_bytes())
        again.names = state["names"]
        for name, epoch in state["running"].items():  # Ray resumes them under their names, without a proposal
            again._add(name, again.trial(name).params)
            again.running[name].epoch = epoch
        return again

    def unfinished(self) -> dict[str, int]:
        return {name: trial.epoch for name, trial in self.running.items()}

    def num_known(self) -> int:
        return len(self.names)

    def another(self) -> Stock:
        return type(self)(self.folder)

    def _add(self, name: str, params: dict[str, Any]) -> None:
        self.running[name] = RayTrial(name, params)
        self.scheduler.on_trial_add(None, self.running[name])

    def _storage(self) -> optuna.storages.BaseStorage | None:
        return None

    def _scheduler(self) -> AsyncHyperBandScheduler:
        return AsyncHyperBandScheduler(metric=METRIC, mode="max", max_t=EPOCHS, grace_period=1, reduction_factor=3)


class StoredStock(Stock):
    """Stock with its study on the disk."""

    def _storage(self) -> optuna.storages.BaseStorage:
        return JournalStorage(JournalFileBackend(str(self.place.with_suffix(".journal"))))
