"""Reading of a run directory that is damaged, incomplete or of another version, as far as possible."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from visionsweep.core.errors import RunError
from visionsweep.core.files import read_object, short
from visionsweep.core.objectives import DEFAULT_OBJECTIVE
from visionsweep.run_dir.files import EPOCHS_FILE, SEARCH_FILE, TRIALS_FILE
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import is_epoch, search_problems
from visionsweep.run_dir.trials import VERSION, Trials, numbered_lines, read_search, take_epoch, take_event

MAX_NOTES = 3  # damaged lines of a file that are named one by one


def load_damaged(run_dir: Path) -> Run:
    """Read a run as `load_run` does, with a sentence in `notes` for everything that was skipped.

    Raises RunError if the folder has none of a run's files.
    """
    if not any(os.path.lexists(run_dir / name) for name in (SEARCH_FILE, TRIALS_FILE, EPOCHS_FILE)):
        read_search(run_dir)  # raises, and suggests another run
    notes: list[str] = []
    trials: Trials = {}
    for name, take in ((TRIALS_FILE, take_event), (EPOCHS_FILE, take_epoch)):
        notes += _take_lines(run_dir / name, take, trials)
    search = _search(run_dir / SEARCH_FILE, trials, notes)
    return Run(run_dir, search, list(trials.values()), tuple(notes))


def _take_lines(path: Path, take: Callable[[Trials, Mapping[str, Any]], None], trials: Trials) -> list[str]:
    if not os.path.lexists(path):
        return [f"{path.name} is missing."]
    bad = []
    try:
        for number, row, problem in numbered_lines(path):
            if problem is None:
                take(trials, row)
            else:
                bad.append(number)
        is_cut = _is_cut(path)
    except (RunError, OSError) as error:
        return [f"{path.name} cannot be read: {str(error).removeprefix(f'{path}: ')}"]
    notes = [f"{path.name}, line {number}: cannot be read, and was passed over." for number in bad[:MAX_NOTES]]
    if len(bad) > MAX_NOTES:
        notes.append(f"{path.name}: {len(bad) - MAX_NOTES} more lines cannot be read.")
    if is_cut:
        notes.append(f"{path.name}: its last line is cut off, by a crash or because it is being written right now.")
    return notes


def _is_cut(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _search(path: Path, trials: Trials, notes: list[str]) -> dict[str, Any]:
    """Return search.json as far as it can be read, with defaults for what the analysis needs."""
    try:
        found = read_object(path)
        version = found.get("version")
        if version != VERSION:
            notes.append(
                f"search.json is in format {short(version)}, and this version of visionsweep reads {VERSION}: "
                "what follows may be incomplete. The version that wrote it tells more."
            )
        for where, value in list(search_problems(found)):
            notes.append(f"search.json: '{where}' is {short(value)}, and was passed over.")
            _drop(found, where)
    except RunError:
        notes.append("search.json is missing or damaged: what was searched, and on which data, is not known.")
        found = {}
    search = dict(found.get("search", {}))
    config = next(iter(trials.values())).config if trials else {}
    task = config.get("task")
    search.setdefault("task", task if isinstance(task, str) and task in DEFAULT_OBJECTIVE else "multiclass")
    metric, mode = DEFAULT_OBJECTIVE.get(search["task"], ("val/loss", "min"))
    search.setdefault("metric", metric)
    search.setdefault("mode", mode)
    longest = max((len(trial.epochs) for trial in trials.values()), default=1)
    search.setdefault("epochs", config["epochs"] if is_epoch(config.get("epochs")) else max(1, longest))
    return {"data": {}, "options": {}, **found, "search": search}


def _drop(search: dict[str, Any], where: str) -> None:
    *parents, key = where.split(".")
    node = search
    for parent in parents:
        node = node[parent]
    del node[key]
