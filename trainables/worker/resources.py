"""A trial's share of its machine, and the limit that holds a GPU process to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the driver of a search plans with these, and trains nothing
    import torch

GPU_CONTEXT_MB = 600.0  # taken by CUDA itself for each process, beside torch's own memory


@dataclass(frozen=True)
class TrialResources:
    """A trial's resources.

    of_one       1, 1/2, 1/4, ... of a GPU, or of a machine's memory without GPUs
    memory_mb    the memory of that share
    cpus, gpus   as Ray counts them
    num_workers  loader processes
    measure      whether the first batches measure the trial's memory before it trains
    """

    of_one: float
    memory_mb: float
    cpus: float
    gpus: float
    num_workers: int
    measure: bool = False

    def limit(self, device: torch.device) -> None:
        """Make torch refuse GPU memory beyond the share. So a trial cannot take that of its neighbours."""
        if device.type == "cuda" and self.of_one < 1:
            import torch

            total_mb = torch.cuda.get_device_properties(device).total_memory / 2**20
            # Shares are counted in the smallest GPU. This one may be larger.
            fraction = max(0.01, self.of_one - GPU_CONTEXT_MB / total_mb)
            torch.cuda.set_per_process_memory_fraction(fraction, device)
