"""What an exception of a training says about its process, and a training that fails before it begins."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from trainables.loop import EpochResult


def failing(error: Exception) -> Iterator[EpochResult]:
    """The epochs of a trial that could not begin: its error appears in `step`, as every other one."""
    raise error
    yield


def is_out_of_memory(error: Exception) -> bool:
    """Of the GPU, in the words of torch or one of CUDA's libraries, or of this machine."""
    words = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        said in words for said in ("out of memory", "alloc_failed", "can't allocate memory")
    )


def poisons_the_process(error: Exception) -> bool:
    """After a device-side assert every later call on this context fails as well."""
    return "CUDA error" in str(error)
