"""The trials of a run directory, parsed from the lines that `launch/search/records.py` writes.

Writers and readers share `Trial`, `take_event` and `take_epoch`.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionsweep.core.errors import RunError
from visionsweep.core.files import RESTORE, Hole, read_json_lines, read_object, short, utf8
from visionsweep.core.names import did_you_mean
from visionsweep.core.objectives import Objective, outcome, sign_of, value_of
from visionsweep.run_dir.files import EPOCHS_FILE, SEARCH_FILE, TRIALS_FILE, trials_with_weights
from visionsweep.run_dir.shapes import STATUSES, epoch_problem, event_problem, search_problems

__all__ = ["STATUSES", "Trial", "Trials", "read_search", "read_trials"]

VERSION = 1
WARM_START = "warm_start"


@dataclass
class Trial:
    """One trial as its lines describe it. status: one of STATUSES, or running."""

    trial_id: str
    params: dict[str, Any]  # flat, by the search's parameter names
    config: dict[str, Any]  # nested, as drawn
    epochs: list[dict[str, Any]] = field(default_factory=list)
    status: str = "running"
    reason: str = ""
    # of a GPU or a machine, where trials are packed (trainables/worker/resources.py)
    share: dict[str, Any] | None = None
    measured_mb: float = 0.0  # memory of its first batches; at least its share when that ran out
    origin: str = ""  # WARM_START, sampler, or "copy of" another trial
    started_s: float | None = None  # seconds since the Unix epoch, of the last start where it was resumed
    ended_s: float | None = None
    num_epochs_told: int = 0  # in the line of its end
    notes: list[str] = field(default_factory=list)  # events that its epochs do not show

    def values(self, metric: str) -> dict[int, float]:
        """Return the metric, or a cost such as latency_ms, by epoch, where it exists and is finite.

        With folds they are the epochs of the first one, whose models are kept.
        """
        found = {row["epoch"]: value_of(row, metric) for row in self.curve}
        return {epoch: value for epoch, value in found.items() if value is not None and math.isfinite(value)}

    def best(self, metric: str, mode: str) -> tuple[float, int] | None:
        """Return (value, epoch) of the best epoch, the earlier one on ties, or None if there is none.

        With folds the value is the mean over those completed, and the epoch is that of the first, whose model is kept.
        """
        sign = sign_of(mode)
        values = [(sign * value, -epoch) for epoch, value in self.values(metric).items()]
        if not values:
            return None
        value, negative_epoch = max(values)
        mean = None if self.num_folds < 2 else value_of(self.epochs[-1], metric)
        return sign * value if mean is None else mean, -negative_epoch

    def outcome(self, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
        """Return the value in each objective at its best epoch by the first one, higher is better.

        The result is None without such an epoch, or if that lacks a value of another objective.
        """
        row = self.best_row(objectives[0])
        return None if row is None else outcome(row, objectives)

    def best_row(self, objective: Objective) -> dict[str, Any] | None:
        """Return the line of its best epoch. With folds it has the means over those completed."""
        best = self.best(objective.name, objective.mode)
        if best is not None and self.num_folds > 1:
            return {**self.epochs[-1], "epoch": best[1]}
        return next((row for row in self.epochs if best and row["epoch"] == best[1]), None)

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The lines of its epochs, with folds those of the first. A later fold has one line, at its end."""
        return [row for row in self.epochs if row.get("fold", 1) == 1]

    @property
    def num_folds(self) -> int:
        """How many folds are completed, 0 without any."""
        return int(self.epochs[-1].get("fold", 0)) if self.epochs else 0

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the run's metric over the completed folds, None for fewer than two."""
        values = self.epochs[-1].get("fold_values", []) if self.epochs else []
        known = [value for value in values if value is not None]
        return statistics.stdev(known) if len(known) > 1 else None

    @property
    def peak_memory_mb(self) -> float | None:
        """The largest memory that is known of it, None where nothing was measured."""
        known = [self.measured_mb, *(float(row.get("peak_memory_mb") or 0.0) for row in self.epochs)]
        return max(known) or None

    @property
    def epochs_recorded(self) -> int:
        """The epoch up to which its lines are complete."""
        recorded = 0
        for row in self.epochs:
            if recorded and row["epoch"] != recorded + 1:
                break
            recorded = row["epoch"]
        return recorded

    @property
    def seconds(self) -> float:
        """Training and evaluation time of all epochs, with the compilation before them."""
        return float(sum(seconds_of(row) for row in self.epochs))


def seconds_of(row: Mapping[str, Any]) -> float:
    """Return what an epoch took, with the compilation before it (`start_s`), which is no part of its own seconds."""
    return float(row["seconds"]) + float(row.get("start_s", 0.0))


Trials = dict[str, Trial]


def take_event(trials: Trials, row: Mapping[str, Any]) -> None:
    """Apply one line of trials.jsonl. A line of a trial without its proposal (a deleted line) is skipped."""
    trial_id = row["trial_id"]
    if row["event"] == "proposed":
        trials[trial_id] = Trial(trial_id, dict(row["params"]), dict(row["config"]), origin=row.get("origin", ""))
        return
    trial = trials.get(trial_id)
    if trial is None:
        return
    if row["event"] == "started":
        trial.status, trial.reason, trial.share = "running", "", row.get("share")
        trial.started_s = row.get("time")
        trial.ended_s = None
    elif row["event"] in ("measured", "outgrown"):
        trial.measured_mb = max(trial.measured_mb, float(row["memory_mb"]))
    elif row["event"] == "noted":
        trial.notes.append(utf8(row["note"]))
    elif row["event"] == "ended":
        trial.status, trial.reason, trial.ended_s = row["status"], utf8(row["reason"]), row.get("time")
        trial.num_epochs_told = row.get("epochs", 0)


def take_epoch(trials: Trials, row: Mapping[str, Any]) -> None:
    """Apply one line of epochs.jsonl.

    A line of an unknown trial is skipped: it may have been proposed since trials.jsonl was read. A trial that went
    back, after a crash or because its state was damaged, trains an epoch a second time. Its earlier lines from that
    epoch on are then dropped, since their weights are gone too.
    """
    trial = trials.get(row["trial_id"])
    if trial is None:
        return
    if trial.epochs and trial.epochs[-1]["epoch"] >= row["epoch"]:
        trial.epochs[:] = [old for old in trial.epochs if old["epoch"] < row["epoch"]]
    trial.epochs.append({**row, "node": utf8(row["node"])} if row.get("node") else dict(row))


LINES = {TRIALS_FILE: event_problem, EPOCHS_FILE: epoch_problem}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return every whole line of trials.jsonl or epochs.jsonl.

    An unfinished last line, left by a crash or a running write, is skipped. Raises RunError for a damaged line
    elsewhere.
    """
    rows = []
    for number, row, problem in numbered_lines(path):
        if isinstance(problem, Hole):
            continue  # a power cut's hole is no damage: a resumed trial reports its epochs again
        if problem is not None:
            raise RunError(f"{path}, line {number}: is damaged ({problem}). Delete that line to continue without it.")
        rows.append(row)
    return rows


def numbered_lines(path: Path) -> Iterator[tuple[int, dict[str, Any], ValueError | None]]:
    """Yield (number, row, None) of every whole line, and (number, {}, problem) of a damaged one."""
    for number, row in read_json_lines(path):
        why = None if isinstance(row, ValueError) else LINES[path.name](row)
        problem = row if isinstance(row, ValueError) else None if why is None else ValueError(why)
        yield number, row if problem is None else {}, problem


def read_search(run_dir: Path) -> dict[str, Any]:
    """Return search.json. Raises RunError if it is missing, damaged or of another format version."""
    path = run_dir / SEARCH_FILE
    if not os.path.lexists(path) and _can_be_entered(run_dir):
        raise RunError(f"{run_dir}: is not a run directory (it has no search.json). {_nearest_run(run_dir)}")
    search = read_object(path)
    if search.get("version") != VERSION:
        raise RunError(
            f"{path}: is in format {short(search.get('version'))}, and this version of visionsweep reads {VERSION}. "
            "Use the version that wrote it."
        )
    for where, value in search_problems(search):
        raise RunError(f"{path}: is damaged ('{where}' is {short(value)}). {RESTORE}")
    return search


def _can_be_entered(run_dir: Path) -> bool:
    """Return whether a folder's content can be known, also true for a missing folder.

    Otherwise reading a file in it says why not.
    """
    try:
        os.stat(run_dir / SEARCH_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return True


def no_such_trial(run_dir: Path, trial_id: str, known: Sequence[str]) -> RunError:
    """An error that says which trials there are, and which of them keep weights."""
    kept = trials_with_weights(run_dir)
    which = f"It has {known[0]} to {known[-1]}" if len(known) > 1 else f"It has {known[0]} alone" if known else "None"
    with_weights = f"; with weights: {', '.join(kept)}" if kept else ""
    return RunError(f"{run_dir}: has no trial '{trial_id}'. {which}{with_weights}.")


def _nearest_run(run_dir: Path) -> str:
    inside = run_dir.parent / "runs"  # the usual place of runs, for a `rank NAME` without it
    if os.path.isfile(inside / run_dir.name / SEARCH_FILE):
        return f"Did you mean '{inside / run_dir.name}'?"
    beside = sorted(other.parent.name for other in run_dir.parent.glob("*/search.json"))
    nearest = did_you_mean(run_dir.name, beside)
    if nearest.startswith("Did") and run_dir.parent != Path():  # the whole path, to be pasted
        nearest = nearest.replace("'", f"'{run_dir.parent}/", 1)
    return nearest if beside else "`visionsweep run` makes one."


def read_trials(run_dir: Path) -> Trials:
    """Return every trial of the run with its epochs, by id."""
    trials: Trials = {}
    for row in read_lines(run_dir / TRIALS_FILE):
        take_event(trials, row)
    for row in read_lines(run_dir / EPOCHS_FILE):
        take_epoch(trials, row)
    return trials
