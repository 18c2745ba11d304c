"""The number of cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

MAX_LOADERS = 8  # loader processes of a training; more only wait for each other
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU in each period, or "max"


def num_cores(quota: Path = QUOTA) -> int:
    """Return the cores that this process may use, at least one.

    A machine's own number would be too high for a process that is bound to some cores, or for a container with a quota.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text().split()
        return max(1, min(cores, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # another system, or no quota
        return cores
