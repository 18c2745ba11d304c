"""Ray Tune's events, written to the run directory and shown on the terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from launch.machines.ray_watchdog import ray_is_gone
from launch.samplers.replay import ended_as
from launch.search.ending import Ending
from launch.search.estimating import Estimating
from launch.search.progress import Progress
from launch.search.records import Records
from launch.trial_notes import TrialNotes
from visionsweep.core.errors import DiskFull, RunError
from visionsweep.core.names import COSTS
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.trials import Trial

if TYPE_CHECKING:
    from launch.search.settled import SettledSearch

IF_THERE = ("l2", "start_s", "fold", "fold_values")  # beside what every epoch has
SAY_AFTER_S = 60.0  # without a first result, after which the user learns what takes long


class RunCallback(Callback):  # type: ignore[misc]
    """Callback that writes the records of a run and shows its progress.

    records      of the run
    search       settled for its data
    progress     shows the run
    keep_trials  number of best trials that keep their weights and predictions
    notes        read for why trials ended, if their processes cannot say so
    estimating   says what the budget buys, None: not of a run with a budget that begins
    ending       is shown every trial that has ended, None: nothing but budget and number end the search
    """

    def __init__(
        self,
        records: Records,
        search: SettledSearch,
        progress: Progress,
        keep_trials: int,
        notes: TrialNotes,
        estimating: Estimating | None = None,
        ending: Ending | None = None,
    ) -> None:
        self.records = records
        self.search = search
        self.progress = progress
        self.keep_trials = keep_trials
        self.notes = notes
        self.estimating = estimating
        self.ending = ending
        self.error: RunError | None = None  # the run directory could not be written
        self.best: list[Trial] | None = None  # ended trials that keep their files, best first
        self.written: str | None = None  # id of the trial in best.yaml
        self.waiting_since: float | None = time.monotonic()  # None once a result came, or the wait was announced

    def __getstate__(self) -> dict[str, object]:
        return {}  # Ray pickles callbacks for its own restore; a run is resumed from its records instead

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self._remembering_errors():
            self.records.started(trial.config["trial_id"], trial.config.get("share"))
        self.progress.began(trial.config["trial_id"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.waiting_since = None
        trial_id = trial.config["trial_id"]
        if result.get("note"):
            self.progress.say(f"Trial {trial_id}: {result['note']}")
            with self._remembering_errors():
                self.records.noted(trial_id, result["note"])
        if "epoch" not in result:
            return
        keys = ("epoch", "metrics", "seconds", "images_per_s", "lr", *COSTS)
        row = {key: result[key] for key in keys} | {key: result[key] for key in IF_THERE if key in result}
        row["metrics"] = {name: value for name, value in row["metrics"].items() if math.isfinite(value)}
        where = {"node": result.get("hostname"), **{key: result.get(key) for key in ("pid", "device", "precision")}}
        with self._remembering_errors():
            self.records.epoch({"trial_id": trial_id, **row, **where})
        self.progress.epoch(trial_id)
        if self.estimating is not None:
            self.estimating.look(trial_id, trial.config["config"], result)
        trial.config["epochs_recorded"] = row["epoch"]  # read by the process that takes over if this one dies

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.waiting_since is not None and time.monotonic() - self.waiting_since > SAY_AFTER_S:
            self.waiting_since = None
            self.progress.say("Waiting for the first epoch: the trials' processes start, and take long to.")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        last = trial.last_result or {}
        cut = self.notes.cut.pop(trial.config["trial_id"], None)
        if cut is not None:
            self._ended(trial.config["trial_id"], "interrupted", cut)
            return
        status = ended_as(last, self.search.metric or "")
        reason = last.get("reason", "")
        if status == "diverged" and not reason:
            reason = f"{self.search.metric} was not a finite number at epoch {last['epoch']}"
        if status == "pruned":
            value = last.get(self.search.metric)
            share = f"best 1/{self.search.reduction_factor}"
            share += " by Pareto front" if len(self.search.compared) > 1 else ""
            place = "in the lowest quarter alive" if self.search.pruner == "pbt" else f"not in the {share}"
            reason = f"{self.search.metric} {value:.4g} at epoch {last['epoch']} is {place}" if value else ""
            reason = self.notes.pruned.get(trial.config["trial_id"], reason)
        self._ended(trial.config["trial_id"], status, reason)
        if last.get("disk_full"):
            with self._remembering_errors():  # else every other trial would train an epoch, and lose it
                raise DiskFull(f"{reason} `visionsweep resume {self.records.run_dir}` resumes from the stored epochs.")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if ray_is_gone() or trial.trial_id in self.notes.not_begun:
            return  # not the trial's fault: it is resumed with the run, or proposed again
        error = trial.get_error() or trial.get_pickled_error()  # a process that was killed may leave nothing
        last_words = str(error or "the worker process died")
        no_memory = self.notes.out_of_memory.get(trial.config["trial_id"])
        if no_memory is not None:
            self._ended(trial.config["trial_id"], "oom", no_memory)
            return
        given_up = self.notes.given_up.get(trial.config["trial_id"])
        reason = given_up or _last_line(last_words)
        if not given_up and (not error or "ActorDiedError" in last_words):
            reason = f"its process died again and again, without a new epoch: {reason}"
        self._ended(trial.config["trial_id"], "failed", reason)

    def _ended(self, trial_id: str, status: str, reason: str) -> None:
        with self._remembering_errors():
            self.records.ended(trial_id, status, reason)
            self._keep_best(self.records.trials[trial_id])
        if self.ending is not None:
            self.ending.look_at(self.records.trials[trial_id])
        self.progress.ended(trial_id)

    def _keep_best(self, latest: Trial) -> None:
        """Delete the files of trials that are no longer among the best, and update best.yaml.

        Only the latest trial and the best so far are ranked: the others have no files left. Ranking ten thousand trials
        would take longer than a proposal.
        """
        everyone = self.best is None  # the first end in a session looks at the files of earlier sessions
        others = self.records.trials.values() if self.best is None else self.best
        pool = [latest, *(trial for trial in others if trial is not latest and trial.status != "running")]
        ranking = ranked(pool, self.search.compared)
        self.best = ranking[: self.keep_trials]
        self.records.keep_only((trial.trial_id for trial in self.best), None if everyone else pool)
        first = ranking[0]
        if first.trial_id != self.written and first.outcome(self.search.compared):
            metric = self.search.metric or ""
            best = first.best(metric, self.search.mode or "max")
            spread = "" if first.deviation is None else f" ± {first.deviation:.4f} over {first.num_folds} folds"
            score = "" if best is None else f": {metric} {best[0]:.4f}{spread} at epoch {best[1]}, {first.status}"
            self.records.write_best(first, score)
            self.written = first.trial_id

    @contextmanager
    def _remembering_errors(self) -> Iterator[None]:
        try:
            yield
        except RunError as error:
            self.error = error
            raise


def _last_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__
