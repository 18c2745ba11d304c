"""Sessions of work on a run, and how long they took together.

A session lasts from a command's start to the last line that it wrote. The time between a crash, or Ctrl-C, and the next
`resume` does not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from visionsweep.run_dir.files import EPOCHS_FILE, TRIALS_FILE
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.trials import Trial, read_lines

RESUMED = "resumed"  # in search.json: {"time", "versions"} of each later command; before 0.5 the time alone


def session_starts(search_json: Mapping[str, Any]) -> list[float]:
    """Return when each command on the run began, in order, in seconds since the Unix epoch.

    Raises RunError if search.json does not say.
    """
    resumed = [one["time"] if isinstance(one, Mapping) else one for one in search_json.get(RESUMED, ())]
    return sorted(map(float, [value_at(search_json, "started"), *resumed]))


def sessions(search_json: Mapping[str, Any], times: Iterable[float]) -> list[tuple[float, float]]:
    """Return (begin, end) of all sessions. times: when the run's lines were written, seconds since the Unix epoch."""
    written = list(times)
    return [
        (begun, max((at for at in written if begun <= at < next_begun), default=begun))
        for begun, next_begun in pairwise([*session_starts(search_json), math.inf])
    ]


def spent_s(search_json: Mapping[str, Any], times: Iterable[float]) -> float:
    """Return the seconds of all sessions. times: as in `sessions`."""
    return sum(end - begin for begin, end in sessions(search_json, times))


def worked_s(those: Iterable[tuple[float, float]], at: float) -> float:
    """Return the seconds of sessions up to a time, without the pauses between them."""
    return sum(min(at, end) - begin for begin, end in those if begin <= at)


def times_written(run_dir: Path) -> list[float]:
    """Return when each line of the run's records was written."""
    rows = (row for name in (TRIALS_FILE, EPOCHS_FILE) for row in read_lines(run_dir / name))
    return [row["time"] for row in rows if "time" in row]


def times_of(trials: Iterable[Trial]) -> list[float]:
    """Return the times of starts, epochs and ends that trials know."""
    found: list[float | None] = []
    for trial in trials:
        found += [row.get("time") for row in trial.epochs]
        found += [trial.started_s, trial.ended_s]
    return [at for at in found if at is not None]


def same_session(search_json: Mapping[str, Any], first: float, second: float) -> bool:
    """Return whether no command on the run began between two times."""
    resumed = search_json.get(RESUMED, ())
    return not resumed or not any(first < begun <= second for begun in session_starts(search_json)[1:])


def versions_before(search_json: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of Python and the libraries in the last session."""
    recorded = [one.get("versions") for one in search_json.get(RESUMED, ()) if isinstance(one, Mapping)]
    return dict(next((one for one in reversed(recorded) if one), search_json.get("versions") or {}))


def versions_changed(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Return a phrase that names the libraries with another version than before, or None."""
    changed = [f"{name} {before[name]} -> {now[name]}" for name in now if before.get(name, now[name]) != now[name]]
    return ", ".join(changed) or None
