"""`visionsweep.refit`: a run's best configuration trained again, with other seeds or on folds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from launch.cli.options import new_console
from launch.models.refit import refit as refit_trial
from launch.remote.location import local_run
from visionsweep.run_dir.load import Readable
from visionsweep.run_dir.run import Run


def refit(
    run: Path | str | Run | Readable,
    *,
    trial: str | None = None,
    seeds: int | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    on: str = "train",
    data: Path | str | None = None,
) -> dict[str, Any]:
    """Train a trial of a run again, and return what its refits.json says: values, mean, deviation and more.

        run     a path or an address, a Run, or the handle of a search
        trial   its id, None means the best
        seeds   trainings, each with a seed of its own, None means 3
        folds   instead: cross-validate it on so many folds of train and val
        epochs  None means the trial's own
        on      train, or train+val
        data    where the run's data is, needed where it is fetched and the run is not the user's own

    What was trained before is not trained again. Raises InputError, as the command `refit` does.
    """
    place = os.fspath(getattr(run, "run_dir", run))  # type: ignore[arg-type]
    named = None if data is None else os.fspath(data)
    return refit_trial(local_run(place), trial, seeds, epochs, on, new_console(), named, folds)
