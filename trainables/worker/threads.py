"""The number of threads of a trial."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import cv2
import torch

from visionsweep.core.cores import num_cores


def own_threads() -> int:
    """Return the threads of a command that trains alone: OMP_NUM_THREADS, where the user has set it, else all cores.

    Two threads that wait for each other on cores that others use take a hundred times as long as one.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) else num_cores()


def limit_threads(num_threads: int) -> None:
    """Set the threads for arithmetic, and none for OpenCV's own pool. Parallel trials must not fight for cores."""
    torch.set_num_threads(max(1, num_threads))
    cv2.setNumThreads(0)


@contextlib.contextmanager
def threads_of_a_trial(num_threads: int) -> Iterator[None]:
    """Set the number of threads within the body. Features kept with one number are computed again with another."""
    before = torch.get_num_threads()
    limit_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
