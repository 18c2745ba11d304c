"""study.journal: the run as an Optuna study, live, for optuna-dashboard.

It is a copy for viewing: the search never reads it and never waits for it. A thread writes it. A resumed run writes it
anew from the records.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from launch.samplers.optuna_internals import id_in_storage
from launch.samplers.replay import DIRECTIONS, STATES, Replay
from launch.tracking.listener import snapshot
from search_spaces.search import Search
from visionsweep.run_dir.trials import Trial

CLOSE_S = 60.0  # for pending writes
METRIC_NAMES = "study:metric_names"  # Optuna's key of them
LOCK_FILE_SUFFIX = ".lock"  # of the link with which Optuna keeps other writers out

_log = logging.getLogger(__name__)

Message = tuple[str, tuple[Any, ...]]


class Journal:
    """Writer of the journal, fed by the events of `records`.

    Every method returns at once, but for `close`, which waits until all is on the disk.

    path: replaced if it exists. past: trials of a resumed run.
    """

    def __init__(self, path: Path, name: str, search: Search, past: Iterable[Trial] = ()) -> None:
        self.path = path
        self.name = name
        self.search = search
        self.replay = Replay(search)
        self.queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.thread = threading.Thread(
            target=self._write, args=([snapshot(trial) for trial in past],), name="study-journal", daemon=True
        )
        self.thread.start()

    def proposed(self, trial: Trial) -> None:
        self.queue.put(("_add", (snapshot(trial),)))

    def epoch(self, trial: Trial, row: Mapping[str, Any]) -> None:
        value = row["metrics"].get(self.search.metric or "")
        if value is not None:
            self.queue.put(("_report", (trial.trial_id, row["epoch"], value)))

    def ended(self, trial: Trial) -> None:
        self.queue.put(("_end", (snapshot(trial),)))

    def close(self) -> None:
        """Wait for pending writes.

        Raises nothing: a journal that could not be written is a line in the log, not the end of a search.
        """
        self.queue.put(None)
        self.thread.join(CLOSE_S)
        if self.thread.is_alive():
            _log.warning("%s: not written to its end after %.0f s; the search does not wait for it", self.path, CLOSE_S)

    def _write(self, past: list[Trial]) -> None:
        try:
            # Delete the lock too. A driver that was killed while it wrote leaves it behind, and Optuna waits for ever
            # for a lock whose journal is gone. No other process writes here, as this one holds the run's lock.
            for left in (self.path, self.path.with_name(f"{self.path.name}{LOCK_FILE_SUFFIX}")):
                left.unlink(missing_ok=True)
            self.storage = JournalStorage(JournalFileBackend(str(self.path)))
            study = optuna.create_study(
                storage=self.storage,
                study_name=self.name,
                directions=[DIRECTIONS[objective.mode] for objective in self.search.compared],
            )
            names = [objective.name for objective in self.search.compared]
            # As `study.set_metric_names` does, without its warning that it is experimental.
            self.storage.set_study_system_attr(id_in_storage(study), METRIC_NAMES, names)
            study.set_user_attr("metric", self.search.metric)
            study.set_user_attr("objectives", names)
            self.study_id = id_in_storage(study)
            self.numbers = dict[str, int]()
            for trial in past:
                self._add(trial)
            while (message := self.queue.get()) is not None:
                getattr(self, message[0])(*message[1])
        except Exception as error:
            _log.warning("%s: cannot be written any more (%s); the search continues without it", self.path, error)

    def _add(self, trial: Trial) -> None:
        self.numbers[trial.trial_id] = self.storage.create_new_trial(
            self.study_id, template_trial=self.replay.frozen(trial)
        )

    def _report(self, trial_id: str, epoch: int, value: float) -> None:
        self.storage.set_trial_intermediate_value(self.numbers[trial_id], epoch, value)

    def _end(self, trial: Trial) -> None:
        number = self.numbers[trial.trial_id]
        for key, value in self.replay.attributes(trial).items():
            self.storage.set_trial_user_attr(number, key, value)
        # A study has no state for interrupted trials. A resumed run writes a new journal.
        state = STATES.get(trial.status, TrialState.FAIL)
        values = self.replay.values(trial)
        if state == TrialState.COMPLETE and values is None:
            state = TrialState.FAIL
        self.storage.set_trial_state_values(number, state, values if state == TrialState.COMPLETE else None)
