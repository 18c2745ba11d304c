"""What a trained model costs: its latency, its weights, the memory that its training took."""

from __future__ import annotations

import ctypes
import resource
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from trainables.config import TrialConfig
from trainables.inference import autocast
from trainables.models.adapters import num_plain_parameters

LATENCY_S = 0.1  # what measuring may take, where two passes do not take longer: a probe may train for two seconds
MAX_PASSES = 20


@torch.no_grad()
def latency_ms(model: nn.Module, config: TrialConfig, device: torch.device) -> float:
    """Milliseconds for one image of the trial's size by itself, in its precision, on its device: the fastest of some
    passes, for other trials run beside it."""
    model.eval()
    size = config.image_size
    image = torch.zeros(1, 3, size, size, device=device)
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
        found.append((time.perf_counter() - begun) * 1000)
    return min(found[1:])  # the first one builds what the others use


def num_parameters(model: nn.Module) -> int:
    """The weights of the model that is handed over: adapters are added to those that they belong to."""
    return num_plain_parameters(model)


def reset_peak_memory(device: torch.device) -> None:
    """From now on anew, so that a trial is not told what an earlier one in its process took."""
    global _mapped_mb
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError, AttributeError):  # glibc keeps what an earlier training gave back
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):  # Linux: 5 resets the peak of the resident set (proc(5))
        Path("/proc/self/clear_refs").write_text("5")
        _mapped_mb = _status_mb().get("RssFile", 0.0)


_mapped_mb = 0.0  # of files, at the last reset


def peak_memory_mb(device: torch.device) -> float:
    """MB (2**20 bytes): of the GPU, or without one what the process held in memory at most, since the reset.

    Pages of files that were mapped since, such as the decoded images, are not counted: all processes of a machine share
    them, and the system takes them back when it needs the room.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError, KeyError):
        status = _status_mb()
        return status["VmHWM"] - max(0.0, status["RssFile"] - _mapped_mb)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _status_mb() -> dict[str, float]:
    """What Linux says of this process's memory."""
    pairs = (line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) / 1024 for name, value in pairs}
