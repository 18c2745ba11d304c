"""All that this project takes from inside Ray, where Ray has no public way. Read in Ray 2.60.0.

    ray_constants           ENABLE_RAY_CLUSTER, NUM_REDIS_GET_RETRIES: how a local Ray listens, and how long it waits
    Node                    start_api_server, start_monitor, start_log_monitor, _webui_url: processes of a start
    worker._global_node     the Ray that this process has started
    AuthenticationTokenLoader   its cached token
    JobConfig               _py_driver_sys_path, _runtime_env_has_working_dir: where workers look for modules
    class_cache             DEFAULT_ENV_VARS, ENV_VARS_TO_PROPAGATE: the variables of a trial's process
    utils, accelerators     the cores and GPUs that Ray itself will find
    TuneController          _process_trial_failure, _resetting_trials, _trial_to_actor, _actor_manager
    Trial                   run_metadata.num_failures
    SearchGenerator         _finished: whether it still asks the searcher

With another version of Ray, look at each of them. `tests/launch/test_internals.py` says which are no longer there. Two
more stand where they must: `get_webui_url_from_internal_kv` in `launch/jobs/ray_client.py`, in code that is sent to
machines without this package, and `TrialProgressCallback._print` in `launch/search/tuning.py`, as a method.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import _raylet
from ray._private import accelerators, node, ray_constants, utils
from ray.job_config import JobConfig

READ_IN = "2.60.0"
PATIENCE_S = 300  # for the first process of a local Ray on a busy machine


def listen_here_alone() -> None:
    """Have a local Ray listen on 127.0.0.1 alone, by Ray's own switch for a single machine, and wait for it longer."""
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray_constants.NUM_REDIS_GET_RETRIES = PATIENCE_S


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


def own_processes() -> dict[str, list[Any]] | None:
    """Return the processes of the Ray that this process has started, by their kind. None if it has joined another."""
    own = ray._private.worker._global_node
    return None if own is None else dict(own.all_processes)


def forget_token() -> None:
    """Reset Ray's cached token. Ray reads it once in a process, and this process may come to use another Ray."""
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


class PathOfWorkers(JobConfig):  # type: ignore[misc]
    """Job settings that make Ray's workers look for modules in `folders` first.

    Ray itself would add the current folder. A file called torch.py or a folder called launch there would then shadow
    the real module.
    """

    @classmethod
    def of(cls, folders: list[str]) -> PathOfWorkers:
        return cls(_py_driver_sys_path=folders)

    def _runtime_env_has_working_dir(self) -> bool:
        return True  # keeps Ray from adding the current folder


def variables_of_trials(names: Collection[str]) -> None:
    """Settle which variables of this process Ray Tune sets for those of trials. Without any, processes are reused."""
    from ray.tune.execution import class_cache  # seconds, which the start of Ray need not wait for

    class_cache.DEFAULT_ENV_VARS.clear()  # a switch of Lightning's
    class_cache.ENV_VARS_TO_PROPAGATE.clear()
    class_cache.ENV_VARS_TO_PROPAGATE.update(names)


def cores_and_gpus() -> tuple[int, int]:
    """Return how many cores and GPUs a local Ray will find on this machine."""
    of_gpus = accelerators.get_accelerator_manager_for_resource("GPU")
    return int(utils.get_num_cpus()), int(of_gpus.get_current_node_num_accelerators())


@contextmanager
def before_failures(act: Callable[[Any, BaseException], None]) -> Iterator[None]:
    """While the body runs, call `act` with a trial and its error before Ray Tune handles the failure.

    Tune gives its callbacks no reason for the death of a process. Its controller has one.
    """
    from ray.tune.execution.tune_controller import TuneController

    own = TuneController._process_trial_failure

    def process(self: Any, trial: Any, exception: BaseException) -> None:
        act(trial, exception)
        own(self, trial, exception)

    TuneController._process_trial_failure = process
    try:
        yield
    finally:
        TuneController._process_trial_failure = own


def count_failures(trial: Any, number: int) -> None:
    """Have Tune count so many failures of a trial. It gives a trial up by their number."""
    trial.run_metadata.num_failures = number


def ask_again(tune_controller: Any) -> None:
    """Have Tune ask the searcher again, which may have said that it is finished."""
    tune_controller.search_alg._finished = False


def end_pending(tune_controller: Any) -> Iterator[Any]:
    """End the trials that wait for their process, and the processes that were asked for, and yield those trials.

    Each is yielded before it is ended. A trial that takes over a process that runs is left out: it ends at once itself.
    """
    controller = getattr(tune_controller, "_tune_controller", tune_controller)
    for trial in [trial for trial in controller.get_live_trials() if trial.status == "PENDING"]:
        if trial in controller._resetting_trials:
            continue
        starting = controller._trial_to_actor.get(trial)
        yield trial
        trial.init_local_path()  # Tune's last message names each trial's folder, and fails without one
        controller.stop_trial(trial)
        if starting is not None and controller._actor_manager.is_actor_started(starting):  # which means asked for
            controller._actor_manager.remove_actor(starting, kill=True)
