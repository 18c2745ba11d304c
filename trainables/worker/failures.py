"""Failures of a training: what an exception says about its process, and how a training continues after one."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.device import GPU
from trainables.loop import EpochResult
from visionsweep.core.errors import ConfigError

END_S = 5.0  # to wait for a killed process
FULL = 0.05  # of a GPU's memory: with less of it free, it is full
NO_MEMORY = ("out of memory", "alloc_failed", "can't allocate memory")
PERHAPS_NO_MEMORY = (
    "unable to find an engine to execute this computation",  # torch, when no algorithm of cuDNN has enough memory
    "cudnn_status_execution_failed",
    "cudnn_status_not_initialized",
    "cublas_status_not_initialized",  # no memory is left for its handle
    "cublas_status_execution_failed",
)
BROKEN_CONTEXT = ("CUDA error", "CUDA driver error", "cuDNN error", "HIP error", "CUBLAS_STATUS_")
LOADERS_LOST = "its loader processes were lost or hung, so it loads its images itself."


def failing(error: Exception) -> Iterator[EpochResult]:
    """Return the epochs of a trial that could not begin. Its error appears in `step`, as any other error."""
    raise error
    yield


def is_out_of_memory(error: Exception) -> bool:
    """Say whether the GPU or this machine is out of memory, by the messages of torch and CUDA's libraries.

    cuDNN and cuBLAS have messages that usually mean it, but can mean a defect. They count while the GPU is full.
    """
    words = str(error).lower()
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(phrase in words for phrase in NO_MEMORY):
        return True
    return any(phrase in words for phrase in PERHAPS_NO_MEMORY) and gpu_is_full()


def gpu_is_full() -> bool:
    """Say whether less than FULL of this process's GPU is free, or of the share that it is limited to."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    try:
        free, total = torch.cuda.mem_get_info(GPU)
        limit = torch.cuda.get_per_process_memory_fraction(GPU) * total
        return bool(free < FULL * total or torch.cuda.memory_reserved(GPU) > (1 - FULL) * limit)
    except RuntimeError:  # a broken context answers nothing
        return False


def is_loader_failure(error: Exception) -> bool:
    """Say whether a loader process was killed or hangs, or its shared memory (/dev/shm, open files) failed."""
    words = str(error)
    return isinstance(error, (RuntimeError, OSError)) and any(
        phrase in words
        for phrase in ("DataLoader worker (pid", "DataLoader timed out", "</torch_", "shared memory", "ancdata")
    )


def without_lost_loaders(
    begin: Callable[[int], Iterator[EpochResult]], num_workers: int, say: Callable[[str], object]
) -> Iterator[EpochResult]:
    """Yield the epochs of a training. If its loader processes fail, the rest is trained without any.

    begin        number of loader processes -> the epochs from the training's current state on
    num_workers  loader processes at the start
    say          called with a sentence if they fail
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
    """Kill the loader processes that are left, and return the sentence about it. One that hangs ignores SIGTERM."""
    for process in multiprocessing.active_children():
        process.kill()
        # torch's handler of SIGCHLD raises once, where the death is noticed. Wait here, so that it is not later.
        with contextlib.suppress(RuntimeError):
            process.join(END_S)
    return LOADERS_LOST


def poisons_the_process(error: Exception) -> bool:
    """Say whether later calls fail as well. A device-side assert breaks the CUDA context for the whole process."""
    return isinstance(error, torch.AcceleratorError) or any(phrase in str(error) for phrase in BROKEN_CONTEXT)


def halved(parsed: TrialConfig, trial: Mapping[str, Any]) -> TrialConfig:
    """Return the configuration at half the batch and twice the accumulation. Raises ConfigError for an odd batch."""
    if parsed.batch_size % 2:
        raise ConfigError(f"a batch of {parsed.batch_size} cannot be halved")
    # Through the schema: a network that needs two images at once refuses a batch of one.
    halves = {"batch_size": parsed.batch_size // 2, "accumulate": parsed.accumulate * 2}
    return parse_config({**trial["config"], **halves}, f"trial {trial['trial_id']}")
