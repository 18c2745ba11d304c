"""A trial's share of its machine, and what keeps it there on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch

GPU_CONTEXT_MB = 600.0  # what CUDA itself takes of a GPU for each process, beside torch's own memory


@dataclass(frozen=True)
class TrialShare:
    """of_one: 1, 1/2, 1/4, ... of a GPU, or without GPUs of a machine's memory. memory_mb: how much that is.

    cpus, gpus: as Ray counts them. num_workers: loader processes. measure: whether the first batches are to say what
    the trial takes, before it trains.
    """

    of_one: float
    memory_mb: float
    cpus: float
    gpus: float
    num_workers: int
    measure: bool = False

    def limit(self, device: torch.device) -> None:
        """From now on torch refuses memory beyond the share, as if the GPU were so small: no neighbour is ever hit."""
        if device.type == "cuda" and self.of_one < 1:
            total_mb = torch.cuda.get_device_properties(device).total_memory / 2**20
            # Of this GPU, which may be larger than the smallest one that shares are counted in.
            fraction = max(0.01, self.of_one - GPU_CONTEXT_MB / total_mb)
            torch.cuda.set_per_process_memory_fraction(fraction, device)
