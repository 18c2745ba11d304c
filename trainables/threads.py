"""One thread count per trial."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import cv2
import torch


def limit_threads(num_threads: int) -> None:
    """Trials side by side must not fight for cores: one thread count for arithmetic, none for OpenCV's own pool."""
    torch.set_num_threads(max(1, num_threads))
    cv2.setNumThreads(0)


@contextlib.contextmanager
def threads_of_a_trial(num_threads: int) -> Iterator[None]:
    """As many in the body: features that are kept by one number are computed again by another."""
    before = torch.get_num_threads()
    limit_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
