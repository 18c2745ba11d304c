"""What happens in Ray Tune, written to the run directory and shown on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray.tune import Callback

from analysis.rank import ranked
from launch.machines.lost import ray_is_gone
from launch.progress import Progress
from launch.records import Records
from launch.replay import ended_as
from search_spaces.errors import RunError
from search_spaces.names import COSTS
from search_spaces.search import Search


class RunCallback(Callback):  # type: ignore[misc]
    """keep_trials: how many complete trials keep their weights and predictions. reasons: by trial, why it was given up,
    where its process cannot say so."""

    def __init__(
        self, records: Records, search: Search, progress: Progress, keep_trials: int, reasons: Mapping[str, str]
    ) -> None:
        self.records, self.search, self.progress, self.keep_trials = records, search, progress, keep_trials
        self.reasons = reasons
        self.error: RunError | None = None  # the run directory could not be written

    def __getstate__(self) -> dict[str, object]:
        return {}  # Ray pickles callbacks for its own restore; a run is resumed from its records instead

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self._remembering_errors():
            self.records.started(trial.config["trial_id"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "epoch" not in result:
            return
        keys = ("epoch", "metrics", "seconds", "images_per_s", "lr", *COSTS)
        row = {key: result[key] for key in keys}
        row["metrics"] = {name: value for name, value in row["metrics"].items() if math.isfinite(value)}
        where = {"node": result.get("hostname"), "pid": result.get("pid"), "device": result.get("device")}
        with self._remembering_errors():
            self.records.epoch({"trial_id": trial.config["trial_id"], **row, **where})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        last = trial.last_result or {}
        status, reason = ended_as(last, self.search.metric or ""), last.get("reason", "")
        if status == "diverged" and not reason:
            reason = f"{self.search.metric} was not a finite number at epoch {last['epoch']}"
        if status == "pruned":
            value, share = last.get(self.search.metric), f"best 1/{self.search.reduction_factor}"
            share += " by Pareto front" if len(self.search.compared) > 1 else ""
            place = "in the lowest quarter alive" if self.search.pruner == "pbt" else f"not in the {share}"
            reason = f"{self.search.metric} {value:.4g} at epoch {last['epoch']} is {place}" if value else ""
        self._ended(trial.config["trial_id"], status, reason)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if ray_is_gone():
            return  # not the trial's doing: it goes on with the run
        last_words = trial.get_error() or trial.get_pickled_error() or "the worker process died"
        reason = self.reasons.get(trial.config["trial_id"]) or _last_line(last_words)
        # Ray kills a worker that fills the machine's memory, and says so.
        status = "oom" if "OutOfMemory" in reason else "failed"
        self._ended(trial.config["trial_id"], status, reason)

    def _ended(self, trial_id: str, status: str, reason: str) -> None:
        with self._remembering_errors():
            self.records.ended(trial_id, status, reason)
            ended = (trial for trial in self.records.trials.values() if trial.status != "running")
            best = ranked(ended, self.search.compared)
            self.records.keep_only(trial.trial_id for trial in best[: self.keep_trials])
            self.records.write_best(best[0] if best[0].outcome(self.search.compared) else None)
        self.progress.ended(trial_id)

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
