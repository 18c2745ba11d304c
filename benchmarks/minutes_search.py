"""Run `visionsweep run` and `export` on a set within a budget, and judge the export (see `minutes.py`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.minutes_scores import Judged, Record, judge_masks, judge_scores
from benchmarks.minutes_sets import Labelled, lay_out
from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.run import Run

# The same space and the same time for both. Stock is Optuna's TPE and Ray's ASHA as they come.
ARMS: dict[str, list[str]] = {"ours": [], "stock": ["--sampler", "stock", "--pruner", "stock"]}
KEPT = ("search.json", "trials.jsonl", "epochs.jsonl", "recommended.json")  # of a run that was judged
CHUNK = 16  # photos


@dataclass(frozen=True)
class Asked:
    """The options of every search of a measurement. search: None for the shipped one of the set's kind."""

    budget: str
    folder: Path
    search: str | None = None
    assignments: Sequence[str] = ()


def searched(data: Labelled, method: str, asked: Asked, seed: int) -> Record:
    """Run a search from nothing, export its recommendation, and judge that on the test rows.

    Its caches are its own and are deleted afterwards, so no run helps another. Its records stay below `asked.folder`.
    An interrupted run is deleted and begins anew.
    """
    place = asked.folder / f"{data.name}-{method}-{asked.budget}-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    folder = lay_out(data, place / "data", seed)
    started = time.time()
    code = _visionsweep(run_command(data, method, asked, seed, folder, place), place / "cache")
    wall_s = time.time() - started
    run_dir = place / "run"
    record: Record = {"wall_s": wall_s, "first_model_s": None, "trials": {}}
    if (run_dir / "search.json").is_file():
        run = load_run(run_dir)
        record |= {"first_model_s": first_model_s(run, started), "trials": ends(run), "options": run.search["command"]}
    if code != 0:
        raise RunError(f"{run_dir}: the search ended with {code}, and has said why. Run the command again.")
    judged = _exported(data, method, run, place)
    _keep_records(place)
    return {**record, "error": judged.error, "standard_error": judged.standard_error}


def run_command(data: Labelled, method: str, asked: Asked, seed: int, folder: Path, place: Path) -> list[str]:
    search = asked.search or ("segmentation-cpu" if data.task == "segmentation" else "classification-cpu")
    command = ["run", search, "--data", str(folder), "--budget", asked.budget, "--seed", str(seed), "--name", "run"]
    command += ["--runs-dir", str(place), "--cache-dir", str(place / "cache"), *ARMS[method]]
    return command + [part for assignment in asked.assignments for part in ("--set", assignment)]


def first_model_s(run: Run, started: float) -> float | None:
    """Return the seconds from Enter to the end of the first complete trial, or None."""
    ended = [trial.ended_s for trial in run.trials if trial.status == "complete" and trial.ended_s is not None]
    return min(ended) - started if ended else None


def ends(run: Run) -> dict[str, int]:
    """Return how many trials ended with each status."""
    statuses = [trial.status for trial in run.trials]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def _exported(data: Labelled, method: str, run: Run, place: Path) -> Judged:
    """Judge the default export, or for stock that of the best trial. A run without a model has an error of 1."""
    command = ["export", str(run.run_dir), "--out", str(place / "export")]
    if method == "stock" and run.trials:
        command += ["--trial", ranked(run.trials, run.objectives)[0].trial_id]
    if not any(trial.epochs for trial in run.trials):
        return Judged(1.0, 0.0)
    if _visionsweep(command, place / "cache") != 0:
        raise RunError(
            f"{run.run_dir}: cannot be exported; `visionsweep export` has said why. Mend that, and continue."
        )
    return judge_export(data, place / "export")


def judge_export(data: Labelled, export_dir: Path) -> Judged:
    """Let an export predict the test rows, from their files."""
    from analysis.models.predictor import load_export
    from trainables.data.reading import read_image

    exported = load_export(export_dir)
    number = {name: i for i, name in enumerate(data.classes)}
    columns = [number[name] for name in exported.classes]

    def photos() -> Iterator[list[np.ndarray]]:
        for start in range(0, len(data.test), CHUNK):
            yield [read_image(one.image) for one in data.test[start : start + CHUNK]]

    if data.task == "segmentation":
        classes = np.array(columns, np.uint8)
        return judge_masks(data, (classes[mask] for chunk in photos() for mask in exported.masks(chunk)))
    found = np.concatenate([exported.probabilities(chunk).numpy() for chunk in photos()])
    if exported.config.task == "binary":  # (N, 1): of the second class
        found = np.concatenate([1 - found, found], axis=1)
    scores = np.zeros((len(found), len(data.classes)), np.float32)
    scores[:, columns] = found
    return judge_scores(data, scores)


def _visionsweep(arguments: Sequence[str], cache: Path) -> int:
    """Return the exit code of a command. On Ctrl-C it waits until the command has ended its own processes."""
    environment: dict[str, Any] = {**os.environ, "VISIONSWEEP_CACHE_DIR": str(cache)}
    program = str(Path(sys.executable).with_name("visionsweep"))
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def _keep_records(place: Path) -> None:
    for path in (place / "run").iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in ("data", "cache", "export"):
        shutil.rmtree(place / name, ignore_errors=True)
