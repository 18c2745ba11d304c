"""The Ray that a search runs on: a local one, started for the search and ended with it.

Starting Ray and importing torch take seconds each, on different processes: `local_ray` does the first in a thread while
the caller does the second, and `ready` waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray

from search_spaces.errors import ConfigError

MAX_LOADERS = 8  # per trial; more only wait for each other
MAX_TRIALS = 10_000  # at once; a bound for a cluster whose trials need no GPU

_starting: list[_Start] = []


class _Start(threading.Thread):
    """Starts Ray; keeps the error, if there is one, for `ready`."""

    def __init__(self, num_cpus: int | None) -> None:
        super().__init__(name="start-ray", daemon=True)
        self.num_cpus = num_cpus
        self.error: BaseException | None = None
        self.up, self.done = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            ray.init(
                address="local",
                num_cpus=self.num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            close_token_file()
        except BaseException as error:
            self.error = error
        self.up.set()
        self.done.wait()  # Linux ends Ray's processes with the thread, not the process, that started them


@contextlib.contextmanager
def local_ray(num_cpus: int | None = None) -> Iterator[None]:
    """Start a local Ray beside the body, and shut it down after; or use the one that this process is connected to."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_CHDIR_TO_TRIAL_DIR", "0"
    )  # a relative path means the same in a trial as on the command line
    # One metrics agent less: on two cores it would compete with the trials.
    os.environ.setdefault("RAY_enable_metrics_collection", "0")
    start = _Start(num_cpus)
    _starting.append(start)
    start.start()
    try:
        yield
    finally:
        start.up.wait()
        _starting.remove(start)
        ray.shutdown()
        start.done.set()


def ready() -> None:
    """Wait until Ray has started."""
    for start in _starting:
        start.up.wait()
        if start.error is not None:
            raise start.error


def close_token_file() -> None:
    """Ray writes its authentication token readable for all; it is the key to running code here."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if token.is_file() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        token.chmod(0o600)


@dataclass(frozen=True)
class Share:
    """What one trial gets, how many run at once, and how many loader processes each has."""

    cpus: float
    gpus: float
    concurrent: int
    num_workers: int


def share_of_machine(cpus: float | None, gpus: float | None, max_concurrent: int | None) -> Share:
    """Settle what was left open: a GPU where there is one, with its share of the cores; else one core.

    Raises ConfigError where not even one trial fits.
    """
    have = ray.cluster_resources()
    have_cpus, have_gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
    gpus = float(have_gpus > 0) if gpus is None else gpus
    if gpus > 1 and gpus % 1:
        raise ConfigError(f"--gpus-per-trial above 1 must be whole, got {gpus:g}. Give 1, or a fraction below it.")
    if cpus is None:
        cpus = float(max(1, int(have_cpus * gpus / max(have_gpus, gpus)))) if gpus else 1.0
    fit = min(int(have_cpus / cpus), int(have_gpus / gpus) if gpus else MAX_TRIALS)
    if fit < 1:
        raise ConfigError(
            f"one trial asks for {cpus:g} CPUs and {gpus:g} GPUs, and there are {have_cpus:g} and {have_gpus:g}. "
            "Lower --cpus-per-trial or --gpus-per-trial."
        )
    # On a CPU loading and training share the trial's cores; beside a GPU the cores have nothing else to do.
    num_workers = min(MAX_LOADERS, max(0, int(cpus) - 1)) if gpus else 0
    return Share(cpus, gpus, min(fit, max_concurrent or fit), num_workers)
