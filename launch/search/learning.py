"""--learn-from: trials of earlier runs enter the sampler's model as observations.

`--warm-start` tries the best of an earlier run again. Here nothing is tried again. What the earlier trials showed is
known from the first proposal on. It is stored in search.json, so that a resumed run does not need the earlier runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch.remote.open_run import open_run
from launch.samplers.encoding import Encoder
from launch.samplers.history import History, Ladder
from launch.samplers.learned import SAME
from launch.samplers.replay import INFEASIBLE_STATUSES, last_of_first_fold
from search_spaces.finite import drawn_as, identity
from search_spaces.search import Search
from visionsweep.core.errors import ConfigError
from visionsweep.core.objectives import measured
from visionsweep.core.s3 import is_remote
from visionsweep.core.words import counted
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

LEARNED = "learned"  # key of search.json
# Parts in which an earlier trial may differ: its values tell the same of a configuration.
MAY_DIFFER = ("seed", "epochs", "epoch_images", "task")


def check_sources(search: Search, sources: Sequence[str]) -> None:
    """Raise InputError for a source that is no run, or of another task, or that nothing would learn from."""
    if not sources:
        return
    if search.sampler != "fidelity":
        raise ConfigError(
            f"--learn-from teaches the model of the sampler fidelity, and the search's is '{search.sampler}'. "
            "Leave one of them out."
        )
    for source in sources:
        if not is_remote(source) and not Path(source).exists():
            raise ConfigError(f"--learn-from takes a run directory, and '{source}' is none. `ls runs` lists them.")
        with open_run(source) as run:
            _check_task(search, source, run)


def _check_task(search: Search, source: str, run: Run) -> None:
    if run.task not in search.tasks:
        asked = " or ".join(search.tasks)
        raise ConfigError(f"--learn-from {source}: is for {run.task}, and this search is for {asked}. Leave it out.")


def learned_from(
    search: Search, data: Mapping[str, Any], sources: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the trials of earlier runs as plain values, and a sentence on each run.

    Each trial has `run`, `params`, `shown` (fidelity and values by rung, higher is better), `infeasible` and `source`.

        search   for one task
        data     `Dataset.describe()` of this search's data
        sources  as `check_sources` lets them pass. It came before any work, so each run is opened once more only

    Raises ConfigError where nothing of a run lies in the space.
    """
    encoder = Encoder(search.full_space)
    history = History(encoder, Ladder(search.grace_epochs, search.epochs, search.reduction_factor), search.compared)
    found: list[dict[str, Any]] = []
    notes = []
    for number, source in enumerate(sources, start=1):
        with open_run(source) as run:
            _check_task(search, source, run)
            known = [trial for trial in run.trials if trial.epochs or trial.status in INFEASIBLE_STATUSES]
            same = all(run.search.get("data", {}).get(key) == data[key] for key in ("fingerprint", "val"))
            observed = [_observed(search, history, run, trial, SAME if same else number) for trial in known]
        useful = [one for one in observed if one is not None]
        if not useful:
            raise ConfigError(
                f"--learn-from {source}: none of its {counted(len(known), 'trial')} lies in the space of this search "
                "and has its metric. Leave it out, or use --warm-start."
            )
        found += useful
        outside = len(known) - len(useful)
        notes.append(
            f"Learned from {counted(len(useful), 'trial')} of {source}"
            + (f"; {outside} outside of this search's space left out" if outside else "")
            + ("." if same else "; judged on other images, so its scores count by their ranks.")
        )
    return found, notes


def _observed(search: Search, history: History, run: Run, trial: Trial, source: int) -> dict[str, Any] | None:
    """Return what a trial has shown, None if it is of another space, or has nothing of what this search compares."""
    params = search.encode(trial.config)
    row = history.encoder.encode(params)
    whole = history.encoder.settle(np.where(np.isnan(row), 0.5, row)[None])[0]
    if (np.isnan(whole) != np.isnan(row)).any() or _rest(drawn_as(search.full_space, params)) != _rest(trial.config):
        return None
    by_epoch = {row["epoch"]: values for row in trial.epochs if (values := measured(row, search.compared))}
    infeasible = trial.status in INFEASIBLE_STATUSES
    if not by_epoch and not infeasible:
        return None
    length = float(trial.config.get("epochs", run.full_epochs))
    shown = history.shown(by_epoch, length, last_of_first_fold(trial))
    return {"run": run.run_dir.name, "params": params, "shown": shown, "infeasible": infeasible, "source": source}


def _rest(config: Mapping[str, Any]) -> str:
    return identity({key: value for key, value in config.items() if key not in MAY_DIFFER})
