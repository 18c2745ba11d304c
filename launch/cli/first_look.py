"""What can be known within the first second of a command: before torch and Ray are imported."""

from __future__ import annotations

import glob
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search_spaces.search import Search
from trainables.config.io import parse_config
from trainables.data.there import no_such_image, require_there
from visionsweep.core.errors import ConfigError, Contradiction, RunError
from visionsweep.core.s3 import is_remote
from visionsweep.core.whole_folder import mend

NUM_DRAWS = 20  # `preflight.check_names` draws more, when the task is known


def look_first(search: Search, data: str) -> None:
    """Raise InputError where the data is not there, or the schema refuses what the search says.

    The task of a classification search is known with the data: refused is what no task takes.
    """
    require_there(data)
    problems: list[ConfigError] = []
    for task in search.tasks:
        try:
            _parse_some(search.for_task(task))
        except Contradiction:  # others may be drawn
            return
        except ConfigError as error:
            problems.append(error)
        else:
            return
    raise problems[0]


def look_at_run(run: str, trial: str | None = None) -> None:
    """Raise RunError where a folder is no run, or the run has no such trial. What is on S3 is not looked at."""
    if is_remote(run):
        return
    from visionsweep.run_dir.trials import no_such_trial, read_search, read_trials

    read_search(Path(run))
    if trial is not None and trial.zfill(4) not in (known := read_trials(Path(run))):
        raise no_such_trial(Path(run), trial, list(known))


def look_at_export(export_dir: Path, images: Sequence[str] = ()) -> None:
    """Raise RunError where a folder is no export, DataError where an image of `images` is not there."""
    from analysis.models.export_folder import require_export

    mend(export_dir)  # a kill of `export` may have left the old one under another name
    require_export(export_dir)
    for image in images:
        if not is_remote(image) and not Path(image).exists() and not glob.has_magic(image):
            raise no_such_image(image)


def newest_run(runs_dir: Path = Path("runs")) -> Path:
    """The run that was started or resumed last. Raises RunError where there is none."""
    found = sorted(runs_dir.glob("*/search.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise RunError(f"there is no run in {runs_dir}/. Name a run or a job, or start one: `visionsweep run`.")
    return found[-1].parent


def default_export(run: str) -> Path:
    """Return the folder that a run's model is exported to if none is named: exports/NAME-OF-RUN."""
    return Path("exports") / Path(run.rstrip("/")).resolve().name


def _parse_some(search: Search) -> None:
    chance = _Chance(random.Random(0))
    for _ in range(NUM_DRAWS):
        parse_config(search.draw(chance), "the search")


class _Chance:
    """A stand-in for a trial, whose choices are drawn at random. Its numbers are the lowest of their ranges."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return low

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.rng.choice(choices)
