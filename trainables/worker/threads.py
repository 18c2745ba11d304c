"""The number of threads of a trial."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import cv2
import torch


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
