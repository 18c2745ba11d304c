"""What all trials of a run share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.data.view import View
from trainables.stopping import Deadline

HALVED = "half_the_batch"  # of a trial's config: its process was ended because its machine ran low on memory


@dataclass(frozen=True)
class TrialSettings:
    """What all trials of a run share; crosses process borders once per actor.

    metric, mode: which epochs are a trial's best. cpus, num_workers: threads for arithmetic, loader processes.
    gpu_share: of one GPU (more than 1: so many), 0 without. cache_dir: None decodes at every access. deadline: None
    for a search without one. stop_file: when it exists, trials end after their current batch.
    run_uri: where the run is, if on S3; run_dir is then each machine's own. views: at which sizes the trials see what
    they are judged on, as far as that is known beforehand.
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
