"""The Ray that a search runs on: a local one, started for the search and ended with it."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import ray

from search_spaces.errors import ConfigError


@contextlib.contextmanager
def local_ray(num_cpus: int | None = None) -> Iterator[None]:
    """Start a local Ray (or use the one that this process is connected to) and shut it down at the end."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # One metrics agent and one dashboard less: on two cores they would compete with the trials.
    os.environ.setdefault("RAY_enable_metrics_collection", "0")
    ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
    )
    close_token_file()
    try:
        yield
    finally:
        ray.shutdown()


def close_token_file() -> None:
    """Ray writes its authentication token readable for all; it is the key to running code here."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if token.is_file() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        token.chmod(0o600)


def slots(cpus_per_trial: float, gpus_per_trial: float) -> int:
    """How many trials fit at once. Raises ConfigError where not even one does."""
    have = ray.cluster_resources()
    cpus, gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
    fit = [int(cpus / cpus_per_trial)] if cpus_per_trial else []
    fit += [int(gpus / gpus_per_trial)] if gpus_per_trial else []
    if not fit or min(fit) < 1:
        raise ConfigError(
            f"one trial asks for {cpus_per_trial:g} CPUs and {gpus_per_trial:g} GPUs, and there are {cpus:g} and "
            f"{gpus:g}. Lower --cpus-per-trial or --gpus-per-trial."
        )
    return min(fit)
