"""Workarounds for Ray 2.60, where it has no setting for what a search needs."""

from __future__ import annotations

import site
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from ray import _raylet
from ray._private import accelerators, node, utils
from ray.job_config import JobConfig

import search_spaces

# Ray's first processes import a trial's libraries, and wait for the data. Ray's default ends processes that are idle
# for a second.
AHEAD = {"preload_python_modules": ["trainables.worker.preloaded"], "idle_worker_killing_time_threshold_ms": 600_000}
# The variables that Ray Tune sends from the driver's environment to each trial's, by way of Ray's records and logs. Its
# default includes the keys to S3. Processes on this machine inherit them anyway, and other machines have their own.
TRAVELS = {"RAY_CHDIR_TO_TRIAL_DIR"}


class OurCode(JobConfig):  # type: ignore[misc]
    """Job settings that make Ray's workers import this package first.

    Ray itself would add the current folder. A file called torch.py or a folder called launch there would then shadow
    the real module.
    """

    @classmethod
    def config(cls) -> OurCode:
        root = str(Path(search_spaces.__file__).parents[1])
        return cls(_py_driver_sys_path=[] if root in site.getsitepackages() else [root])

    def _runtime_env_has_working_dir(self) -> bool:
        return True  # keeps Ray from adding the current folder


def forget_token() -> None:
    """Reset Ray's cached token. Ray reads it once in a process, and this process may come to use another Ray."""
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


@contextmanager
def without_onlookers() -> Iterator[None]:
    """Start a local Ray in the body without a dashboard head, an autoscaler and a log reader.

    Nobody uses them in a local search. Each is a process that imports Ray, and `ray.init` waits for the first. Together
    they are half of the computation of a start.
    """
    starts = ("start_api_server", "start_monitor", "start_log_monitor")
    own = {name: getattr(node.Node, name) for name in starts}

    def none(self: Any, **options: Any) -> None:
        self._webui_url = ""  # its value without a dashboard

    try:
        for name in starts:
            setattr(node.Node, name, none)
        yield
    finally:
        for name, start in own.items():
            setattr(node.Node, name, start)


def trials_environment(local: bool) -> None:
    """Settle which variables Ray Tune sets for a trial's process.

    Where it sets none, a trial runs in one of the processes that Ray has started already. They have this process's
    environment.
    """
    from ray.tune.execution import class_cache  # seconds, which the start of Ray need not wait for

    class_cache.DEFAULT_ENV_VARS.clear()  # a switch of Lightning's
    class_cache.ENV_VARS_TO_PROPAGATE.clear()
    if not local:
        class_cache.ENV_VARS_TO_PROPAGATE.update(TRAVELS)


def preloading(num_trials: int | None, cpus: float | str | None, gpus: float | str | None) -> dict[str, Any]:
    """Return Ray's settings by which its first processes, one per core, import what a trial needs before there is one.

    The settings are empty unless each of those processes gets a trial of its own: with GPUs, or with fewer trials.

        num_trials  most trials at once, None means no limit
        cpus, gpus  of a trial, as given
    """
    cores = utils.get_num_cpus()
    some_gpus = accelerators.get_accelerator_manager_for_resource("GPU").get_current_node_num_accelerators()
    if some_gpus or gpus or cpus not in (None, 1) or (num_trials is not None and num_trials < cores):
        return {}
    # Ray's processes import `trainables` before they know our folder, so what they would find must be this one.
    found = PathFinder.find_spec("trainables", sys.path[1:])
    here = Path(search_spaces.__file__).parents[1] / "trainables" / "__init__.py"
    if found is None or found.origin is None or Path(found.origin) != here:
        return {}
    return AHEAD
