"""The costs of a model: its latency, its number of weights, the peak memory of its training."""

from __future__ import annotations

import ctypes
import resource
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from trainables.config.trial import TrialConfig
from trainables.inference import autocast
from trainables.models.adapters import num_plain_parameters

LATENCY_S = 0.1  # for measuring, two passes at least; short, because a probe may train for two seconds
MAX_PASSES = 20


@torch.no_grad()
def latency_ms(model: nn.Module, config: TrialConfig, device: torch.device) -> float:
    """Return the milliseconds for a single image of the trial's size, in its precision, on its device.

    It is the fastest of several passes. Other trials run at the same time.
    """
    model.eval()
    size = config.image_size
    channels = 3 if config.model.bands is None else config.model.bands.channels
    image = torch.zeros(1, channels, size, size, device=device)
    if config.channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    found: list[float] = []
    started = time.perf_counter()
    while len(found) < 2 or (len(found) < MAX_PASSES and time.perf_counter() - started < LATENCY_S):
        begun = time.perf_counter()
        with autocast(config, device):
            model(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        found.append((time.perf_counter() - begun) * 1000)
    return min(found[1:])  # the first pass initialises kernels and buffers


def num_parameters(model: nn.Module) -> int:
    """Return the number of weights of the exported model, in which adapters are merged."""
    return num_plain_parameters(model)


def reset_peak_memory(device: torch.device) -> None:
    """Restart the measurement of peak memory, so that it does not include earlier trials of this process."""
    global _mapped_mb
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError, AttributeError):  # glibc keeps memory that an earlier training freed
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):  # Linux: 5 resets the peak of the resident set (proc(5))
        Path("/proc/self/clear_refs").write_text("5")
        _mapped_mb = _status_mb().get("RssFile", 0.0)


_mapped_mb = 0.0  # of mapped files, at the last reset


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory since the reset, in MB (2**20 bytes), of the GPU or else of this process.

    Of a GPU that is what torch reserves, which exceeds what tensors take by 10 to 40%: a share limits the reserved
    memory (`TrialResources.limit`), so trials are packed by it.

    Pages of files mapped since the reset, such as the decoded images, do not count. All processes of a machine share
    them, and the system reclaims them when it needs memory.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    with suppress(OSError, KeyError):
        status = _status_mb()
        return status["VmHWM"] - max(0.0, status["RssFile"] - _mapped_mb)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _status_mb() -> dict[str, float]:
    """Return the memory figures of this process in MB, by their names in /proc/self/status."""
    pairs = (line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) / 1024 for name, value in pairs}
