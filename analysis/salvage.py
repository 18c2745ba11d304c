"""What can still be read of a run directory that is damaged, incomplete or of another version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.load import Run
from analysis.trials import VERSION, Trials, numbered_lines, read_search, take_epoch, take_event
from search_spaces.errors import RunError
from search_spaces.search import DEFAULT_OBJECTIVE

MAX_NOTES = 3  # of lines of one file, that are named one by one


def salvage(run_dir: Path) -> Run:
    """As `load_run`, with a sentence in `notes` for whatever had to be passed over. Raises RunError where the folder
    has none of a run's files."""
    if not any((run_dir / name).exists() for name in ("search.json", "trials.jsonl", "epochs.jsonl")):
        read_search(run_dir)  # says so, and which run may be meant
    notes: list[str] = []
    trials: Trials = {}
    for name, take in (("trials.jsonl", take_event), ("epochs.jsonl", _take_epoch)):
        notes += _take_lines(run_dir / name, take, trials)
    search = _search(run_dir / "search.json", trials, notes)
    return Run(run_dir, search, list(trials.values()), tuple(notes))


def _take_lines(path: Path, take: Callable[[Trials, Mapping[str, Any]], None], trials: Trials) -> list[str]:
    if not path.exists():
        return [f"{path.name} is missing."]
    bad = []
    for number, row in numbered_lines(path):
        try:
            take(trials, row)  # type: ignore[arg-type]  # None, of a damaged line, raises like other nonsense
        except (KeyError, TypeError, ValueError, AttributeError, RunError):
            bad.append(number)
    notes = [f"{path.name}, line {number}: cannot be read, and was passed over." for number in bad[:MAX_NOTES]]
    if len(bad) > MAX_NOTES:
        notes.append(f"{path.name}: {len(bad) - MAX_NOTES} more lines cannot be read.")
    if not path.read_bytes().endswith(b"\n") and path.stat().st_size:
        notes.append(f"{path.name}: its last line is cut off, by a crash or because it is being written right now.")
    return notes


def _take_epoch(trials: Trials, row: Mapping[str, Any]) -> None:
    """Only a line that has what everything here relies on."""
    float(row["seconds"]), int(row["epoch"]), dict(row["metrics"])
    take_epoch(trials, row)


def _search(path: Path, trials: Trials, notes: list[str]) -> dict[str, Any]:
    """search.json as far as it can be read, with what everything here relies on filled in."""
    try:
        read = json.loads(path.read_text())
        found: dict[str, Any] = read if isinstance(read, dict) else {}
        version = found.get("version")
        if version != VERSION:
            notes.append(
                f"search.json is in format {version}, and this version of visionsweep reads {VERSION}: "
                "what follows may be incomplete. The version that wrote it tells more."
            )
    except (OSError, ValueError):
        notes.append("search.json is missing or damaged: what was searched, and on which data, is not known.")
        found = {}
    told = found.get("search")
    search = dict(told) if isinstance(told, dict) else {}
    config = next(iter(trials.values())).config if trials else {}
    search.setdefault("task", config.get("task", "multiclass"))
    metric, mode = DEFAULT_OBJECTIVE.get(str(search["task"]), ("val/loss", "min"))
    search.setdefault("metric", metric)
    search.setdefault("mode", mode)
    lengths = [len(trial.epochs) for trial in trials.values()]
    search.setdefault("epochs", config.get("epochs", max(lengths, default=1)))
    for name in ("data", "options"):
        if not isinstance(found.get(name), dict):
            found[name] = {}
    return {**found, "search": search}
