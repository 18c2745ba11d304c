"""Settings of Ray that a search chooses: where its processes find our code, and what they import and inherit."""

from __future__ import annotations

import site
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import search_spaces
from launch.machines.ray_internals import PathOfWorkers, cores_and_gpus, variables_of_trials

# Ray's first processes import a trial's libraries, and wait for the data. Ray's default ends processes that are idle
# for a second.
AHEAD = {"preload_python_modules": ["trainables.worker.preloaded"], "idle_worker_killing_time_threshold_ms": 600_000}
# The variables that Ray Tune sends from the driver's environment to each trial's, by way of Ray's records and logs. Its
# default includes the keys to S3. Processes on this machine inherit them anyway, and other machines have their own.
TRAVELS = {"RAY_CHDIR_TO_TRIAL_DIR"}


def our_code() -> PathOfWorkers:
    """Return the job settings by which Ray's workers import this package, whatever stands in the current folder."""
    root = str(Path(search_spaces.__file__).parents[1])
    return PathOfWorkers.of([] if root in site.getsitepackages() else [root])


def trials_environment(local: bool) -> None:
    """Settle which variables Ray Tune sets for a trial's process.

    Where it sets none, a trial runs in one of the processes that Ray has started already. They have this process's
    environment.
    """
    variables_of_trials(() if local else TRAVELS)


def preloading(num_trials: int | None, cpus: float | str | None, gpus: float | str | None) -> dict[str, Any]:
    """Return Ray's settings by which its first processes, one per core, import what a trial needs before there is one.

    The settings are empty unless each of those processes gets a trial of its own: with GPUs, or with fewer trials.

        num_trials  most trials at once, None means no limit
        cpus, gpus  of a trial, as given
    """
    cores, have_gpus = cores_and_gpus()
    if have_gpus or gpus or cpus not in (None, 1) or (num_trials is not None and num_trials < cores):
        return {}
    # Ray's processes import `trainables` before they know our folder, so what they would find must be this one.
    found = PathFinder.find_spec("trainables", sys.path[1:])
    here = Path(search_spaces.__file__).parents[1] / "trainables" / "__init__.py"
    if found is None or found.origin is None or Path(found.origin) != here:
        return {}
    return AHEAD
