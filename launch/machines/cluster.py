"""The Ray that a search runs on: a local one, started and ended with the search, or an existing cluster.

Starting Ray and importing torch take seconds each, in different processes. `some_ray` starts Ray in a thread while the
caller imports torch, and `ready` waits for Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from launch.cli.options import check_gpus_per_trial
from launch.cli.signals import finishing, kept_below, raise_if_asked
from launch.machines.auth_token import close_token_file, own_token
from launch.machines.own_folder import own_folder
from launch.machines.ray_internals import forget_token, listen_here_alone, own_processes, without_onlookers
from launch.machines.ray_settings import our_code
from visionsweep.core.cores import MAX_LOADERS
from visionsweep.core.errors import ConfigError
from visionsweep.core.masked import masked, masked_line
from visionsweep.core.printable import printable

ANSWER_S = 10.0  # for a cluster to accept a connection
STARTS = 3  # attempts: Ray gives its own processes half a minute, which is too little on a busy machine
SAY_AFTER_S = 30.0  # of waiting
ENDING_S = 30.0  # for a Ray that is still starting when the command ends
MAX_TRIALS = 10_000  # at once; a bound for a cluster whose trials need no GPU

_starting: list[_Start] = []


class _Start(threading.Thread):
    """A thread that starts or joins Ray, and keeps the error, if there is one, for `ready`."""

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        super().__init__(name="start-ray", daemon=True)
        self.address = address
        self.options = options
        self.error: BaseException | None = None
        self.up = threading.Event()
        self.done = threading.Event()

    def run(self) -> None:
        try:
            close_token_file()
            if self.address == "local":
                listen_here_alone()
            self._start()
        except BaseException as error:
            self.error = error
        self.up.set()
        self.done.wait()  # Linux ends Ray's processes with the thread, not the process, that started them

    def _start(self) -> None:
        for attempt in range(STARTS):
            try:
                if self.address not in ("local", "auto"):
                    host, _, port = self.address.rpartition(":")
                    socket.create_connection((host, int(port)), ANSWER_S).close()  # Ray itself tries for minutes
                # No tracebacks on the terminal: Ray's errors are raised, and those of trials stand in the records.
                quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
                bare = without_onlookers() if self.address == "local" else contextlib.nullcontext()
                with kept_below(), bare:
                    ray.init(address=self.address, job_config=our_code(), **quiet, **self.options)
                return
            except OSError as error:  # ConnectionError among them
                raise (_cannot_start if self.address == "local" else _no_answer)(self.address, error) from None
            except Exception as error:
                ray.shutdown()
                if self.address != "local":
                    raise
                if attempt == STARTS - 1:
                    raise _cannot_start(self.address, error) from None


def local_ray(
    num_cpus: int | None = None, memory: int | None = None, settings: Mapping[str, Any] | None = None
) -> contextlib.AbstractContextManager[None]:
    """Start a local Ray beside the body and shut it down after it, or use the one that this process is connected to.

    num_cpus  cores of the machine to use, None means all
    memory    bytes of the machine to use, None means all
    settings  more of Ray's system settings, such as those of `preloading`
    """
    patient = {
        **(settings or {}),
        # A single machine that is too busy to answer, or asleep, has not failed: Ray must not declare it dead.
        "health_check_failure_threshold": 10**6,
        "worker_register_timeout_seconds": 600,
        "agent_register_timeout_ms": 600_000,
    }
    return some_ray("local", num_cpus=num_cpus, _memory=memory, include_dashboard=False, _system_config=patient)


def ray_at(address: str | None, settings: Mapping[str, Any] | None = None) -> contextlib.AbstractContextManager[None]:
    """Use the cluster at `auto` (the one that this machine belongs to) or HOST:PORT.

    With `None` a local Ray is started with `settings`. Raises ConfigError for any other address.
    """
    if address is None:
        return local_ray(settings=settings)
    if address != "auto" and not re.fullmatch(r"[^:/\s]+:\d{1,5}", address):
        raise ConfigError(
            f"--address takes auto, HOST:PORT or ray://HOST:PORT, got '{masked(address)}'. Run the command on a "
            "machine of the cluster, with --address auto, or hand the search over with `visionsweep submit`: it then "
            "runs without this machine."
        )
    return some_ray(address)


@contextlib.contextmanager
def some_ray(address: str, **options: Any) -> Iterator[None]:
    """Start or join a Ray beside the body and leave it after it, or use the one that this process is connected to."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_CHDIR_TO_TRIAL_DIR", "0"
    )  # a relative path means the same in a trial as on the command line
    # No metrics agent: on two cores it would compete with the trials.
    os.environ.setdefault("RAY_enable_metrics_collection", "0")
    with contextlib.ExitStack() as own:
        if address == "local":
            options["_temp_dir"] = str(own.enter_context(own_folder()) / "r")
            own.enter_context(own_token())
            own.callback(forget_token)
            forget_token()
        start = _Start(address, options)
        _starting.append(start)
        start.start()
        try:
            yield
        finally:
            with finishing():  # another signal does not leave half of Ray behind
                if start.up.wait(ENDING_S):  # a Ray that is still starting ends with this process
                    ray.shutdown()
                _starting.remove(start)
                start.done.set()
                own.close()


def ready() -> None:
    """Wait until Ray has started, with a message on stderr where that takes long."""
    for start in _starting:
        began = time.monotonic()
        while not start.up.wait(SAY_AFTER_S):
            seconds = time.monotonic() - began
            what = "start: this machine is busy" if start.address == "local" else "answer"
            print(printable(f"Waiting for Ray to {what} ({seconds:.0f} s so far)."), file=sys.stderr, flush=True)
        raise_if_asked()
        if start.error is not None:
            raise start.error


def started_here() -> bool:
    """Whether this process has started its own Ray, which no other machine joins."""
    return "raylet" in (own_processes() or {})


def _cannot_start(address: str, error: Exception) -> ConfigError:
    why = masked_line(error)
    return ConfigError(
        f"Ray cannot start on this machine ({why}). Free some memory and disk, or set RAY_TMPDIR to another folder."
    )


def _no_answer(address: str, error: OSError) -> ConfigError:
    why = masked_line(error)
    return ConfigError(
        f"no Ray answers at --address {address} ({why}). Start one with `ray start --head`, give the address that it "
        "prints, or leave --address out for this machine alone. A cluster that asks for a token wants its own in "
        "~/.ray/auth_token."
    )


@dataclass(frozen=True)
class MachineShare:
    """Resources of one trial, and how many trials run at once.

    Where trials are packed (`capacity.py`), cpus and gpus are those of a trial about which nothing is known.
    `concurrent` then counts trials of the smallest share.

        cpus, gpus   of one trial
        concurrent   trials at once
        num_workers  loader processes of each trial
    """

    cpus: float
    gpus: float
    concurrent: int
    num_workers: int


@dataclass(frozen=True)
class Slots:
    """Capacity that one machine, or all of them together, adds to a search.

    trials    at once
    devices   units of memory where trials are packed (`capacity.py`)
    why_none  why a machine cannot be used, or ''
    """

    trials: int
    devices: float = 0.0
    why_none: str = ""

    def __add__(self, other: Slots) -> Slots:
        return Slots(self.trials + other.trials, self.devices + other.devices)


def share_of_machine(cpus: float | None, gpus: float | None, max_concurrent: int | None) -> MachineShare:
    """Settle the resources that were left open: one GPU and its share of the cores, or one core where there is no GPU.

    A trial with several GPUs gets all of them on one machine. Raises ConfigError if not even one trial fits.
    """
    check_gpus_per_trial(gpus)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    have_cpus, have_gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    gpus = float(have_gpus > 0) if gpus is None else gpus
    if cpus is None:
        shares = [node.get("CPU", 0.0) * gpus / node["GPU"] for node in nodes if node.get("GPU", 0.0) >= 1]
        cpus = float(max(1, int(min(shares, default=1.0)))) if gpus else 1.0
    fit = sum(trials_on(node, cpus, gpus) for node in nodes)
    if fit < 1:
        raise ConfigError(
            f"one trial asks for {cpus:g} CPUs and {gpus:g} GPUs of one machine, and there are {have_cpus:g} and "
            f"{have_gpus:g} on {len(nodes)}. Lower --cpus-per-trial or --gpus-per-trial."
        )
    # On a CPU, loading and training share the trial's cores. Beside a GPU the cores are free for loading.
    num_workers = min(MAX_LOADERS, max(0, int(cpus) - 1)) if gpus else 0
    return MachineShare(cpus, gpus, min(fit, max_concurrent or fit), num_workers)


def trials_on(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Return how many trials with these CPUs and GPUs fit on a machine at once. node: Ray's resources of it."""
    return min(int(node.get("CPU", 0.0) / cpus + 1e-9), int(node.get("GPU", 0.0) / gpus + 1e-9) if gpus else MAX_TRIALS)
