"""The settings shared by all trials of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.data.view import View
from trainables.worker.stopping import Deadline

HALVED = "half_the_batch"  # key of a trial's config: its process was ended because its machine ran low on memory


@dataclass(frozen=True)
class TrialSettings:
    """The settings shared by all trials of a run, sent to another process once per actor.

    run_dir        the run directory; each machine has its own if the run is on S3
    metric, mode   decide which epochs are a trial's best
    short_side_px  of the decoded images
    cache_dir      of the decoded images, None decodes at every access
    cpus           threads for arithmetic
    gpu_share      share of one GPU, a number of GPUs that train each batch together, 0 without
    num_workers    loader processes
    deadline       None for a search without one
    stop_file      when it exists, trials end after their current batch
    run_uri        address of a run on S3, else None
    views          sizes at which the trials see validation images, as far as known beforehand
    """

    run_dir: Path
    metric: str
    mode: str
    short_side_px: int
    cache_dir: Path | None
    cpus: int
    gpu_share: float
    num_workers: int
    deadline: Deadline | None
    stop_file: Path
    run_uri: str | None = None
    views: tuple[View, ...] = ()
