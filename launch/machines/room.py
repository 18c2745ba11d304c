"""What trials can be packed into: GPUs, or the memory of machines without them, cut into a few sizes of share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray

from launch.machines.cluster import MAX_LOADERS, Share, ready, share_of_machine
from launch.machines.nodes import survey
from launch.remote.probe import Storage
from search_spaces.errors import ConfigError
from trainables.shares import GPU_CONTEXT_MB, TrialShare

MARGIN = 1.1  # over what was measured, or predicted
MOST_ON_A_GPU = 8
UNKNOWN_WITHOUT_GPU = 0.5  # of a machine's memory: two that nobody has measured beside each other


@dataclass(frozen=True)
class Unit:
    """A GPU or, where there are none, a machine: its memory and the cores that its trials may use."""

    memory_mb: float
    cpus: float


@dataclass(frozen=True)
class Room:
    """What trials are packed into. unit_mb: the memory of the smallest unit, of which shares are parts; units: how many
    of that size there are in all. levels: the shares, the largest first. cpus: of a whole share; cpus_each: of every
    trial, None for a part of `cpus`. most: trials at once.
    """

    on_gpus: bool
    unit_mb: float
    units: float
    levels: tuple[float, ...]
    cpus: float
    cpus_each: float | None
    most: int

    def share(self, level: float, measure: bool = False) -> TrialShare:
        cpus = self.cpus_each or self.cpus * level
        cpus = float(int(cpus)) if cpus >= 1 else cpus
        # As in `share_of_machine`: beside a GPU the cores have nothing else to do.
        workers = min(MAX_LOADERS, max(0, int(cpus) - 1)) if self.on_gpus else 0
        return TrialShare(level, self.unit_mb * level, cpus, level if self.on_gpus else 0.0, workers, measure)

    def level_for(self, peak_memory_mb: float) -> float:
        """The smallest share that holds it with a margin; all of a unit where none does."""
        needed = peak_memory_mb * MARGIN + (GPU_CONTEXT_MB if self.on_gpus else 0.0)
        return min((level for level in self.levels if level * self.unit_mb >= needed), default=1.0)

    @property
    def unknown(self) -> float:
        """The share of a trial of which nothing is known."""
        return 1.0 if self.on_gpus or len(self.levels) == 1 else UNKNOWN_WITHOUT_GPU


def room_of(units: Sequence[Unit], on_gpus: bool, cpus_each: float | None, max_concurrent: int | None) -> Room:
    """units: at least one, each with cores for one trial at least."""
    smallest, cpus = min(unit.memory_mb for unit in units), min(unit.cpus for unit in units)
    at_once = [MOST_ON_A_GPU if cpus_each is None else int(unit.cpus / cpus_each) for unit in units]
    each = min(max(at_once), max_concurrent or max(at_once), *([MOST_ON_A_GPU] if on_gpus else []))
    levels = tuple(0.5**power for power in range(math.ceil(math.log2(each)) + 1))
    # What is left of a larger machine beyond whole shares of the smallest size holds nothing.
    whole = sum(math.floor(unit.memory_mb / smallest / levels[-1] + 1e-9) * levels[-1] for unit in units)
    units_in_all = float(len(units)) if on_gpus else whole
    most = min(sum(at_once), int(units_in_all / levels[-1] + 1e-9))
    return Room(on_gpus, smallest, units_in_all, levels, cpus, cpus_each, min(most, max_concurrent or most))


def room_of_cluster(cpus: float | str | None, gpus: float | str | None, max_concurrent: int | None) -> Room:
    """Of the Ray that this process is connected to. cpus, gpus: `auto`, a number, or None where nothing was said; one
    of them is `auto`.

    Raises ConfigError where they contradict each other or the machines, or Ray knows of no memory.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    have_gpus = sum(node.get("GPU", 0.0) for node in nodes)
    if gpus == "auto":
        if not have_gpus:
            raise ConfigError("--gpus-per-trial auto shares GPUs, and there are none. Give --cpus-per-trial auto.")
        cpus_each = float(cpus) if isinstance(cpus, (int, float)) else None
        units = _gpu_units(nodes, cpus_each)
    else:
        if gpus or (gpus is None and have_gpus):
            raise ConfigError(
                "--cpus-per-trial auto shares the memory of machines for trials without a GPU. Give --gpus-per-trial "
                "auto to share the GPUs, or --gpus-per-trial 0 to leave them idle."
            )
        cpus_each = 1.0
        units = [Unit(node.get("memory", 0.0) / 2**20, node["CPU"]) for node in nodes if node.get("CPU", 0.0) >= 1]
    if not units or min(unit.memory_mb for unit in units) <= 0:
        raise ConfigError(
            "there is nothing that trials could be packed into: no machine with cores for a trial, and a memory that "
            "Ray knows of. Give numbers instead of auto, or start Ray with --num-cpus and --memory."
        )
    return room_of(units, gpus == "auto", cpus_each, max_concurrent)


def _gpu_units(nodes: Sequence[dict[str, Any]], cpus_each: float | None) -> list[Unit]:
    seen_gb = [node.gpu_memory_gb for node in survey([], None, None, Storage()) if node.gpu_memory_gb]
    memory_mb = min(seen_gb, default=0.0) * 1e9 / 2**20
    found = []
    for node in nodes:
        num_gpus, num_cpus = int(node.get("GPU", 0.0)), node.get("CPU", 0.0)
        if num_gpus and num_cpus / num_gpus >= (cpus_each or 0.125):
            found += [Unit(memory_mb, num_cpus / num_gpus)] * num_gpus
    return found


def plan(
    cpus: float | Literal["auto"] | None, gpus: float | Literal["auto"] | None, max_concurrent: int | None
) -> tuple[Share, Room | None]:
    """What each trial gets of the machine, and what they are packed into where they are. Raises ConfigError where it
    does not have so much."""
    ready()
    if cpus == "auto" or gpus == "auto":
        room = room_of_cluster(cpus, gpus, max_concurrent)
        first = room.share(room.unknown)
        return Share(first.cpus, first.gpus, room.most, first.num_workers), room
    return share_of_machine(cpus, gpus, max_concurrent), None
