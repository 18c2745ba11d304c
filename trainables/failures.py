"""What an exception of a training says about its process, a training that fails before it begins, and one that goes on
with less memory."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from search_spaces.errors import ConfigError
from trainables.config import TrialConfig
from trainables.config_io import parse_config
from trainables.loop import EpochResult

END_S = 5.0  # for a killed process to be gone
LOADERS_LOST = "its loader processes were lost or hung, so it loads its images itself."


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


def is_loader_failure(error: Exception) -> bool:
    """A loader process was killed or hangs, or what it shares memory through (/dev/shm, open files) does not do."""
    words = str(error)
    return isinstance(error, (RuntimeError, OSError)) and any(
        said in words
        for said in ("DataLoader worker (pid", "DataLoader timed out", "</torch_", "shared memory", "ancdata")
    )


def without_lost_loaders(
    begin: Callable[[int], Iterator[EpochResult]], num_workers: int, say: Callable[[str], object]
) -> Iterator[EpochResult]:
    """The epochs of a training; where its loader processes fail, the rest without any.

    begin: trains with so many, from where the training stands.
    """
    try:
        yield from begin(num_workers)
    except Exception as error:
        if not num_workers or not is_loader_failure(error):
            raise
        error.__traceback__ = None  # its frames hold the batches
        say(end_loaders())
        yield from begin(0)


def end_loaders() -> str:
    """End what is left of them, and return what to say: a process that hangs would not end when it is asked to."""
    for process in multiprocessing.active_children():
        process.kill()
        # torch's handler of SIGCHLD raises where the death is noticed, once: here, and not in whatever runs next.
        with contextlib.suppress(RuntimeError):
            process.join(END_S)
    return LOADERS_LOST


def poisons_the_process(error: Exception) -> bool:
    """After a device-side assert every later call on this context fails as well."""
    return "CUDA error" in str(error)


def halved(parsed: TrialConfig, trial: Mapping[str, Any]) -> TrialConfig:
    """The configuration at half the batch and twice the accumulation. Raises ConfigError where it cannot be halved."""
    if parsed.batch_size % 2:
        raise ConfigError(f"a batch of {parsed.batch_size} cannot be halved")
    # Through the schema: a network that needs two images at once refuses a batch of one.
    halves = {"batch_size": parsed.batch_size // 2, "accumulate": parsed.accumulate * 2}
    return parse_config({**trial["config"], **halves}, f"trial {trial['trial_id']}")
