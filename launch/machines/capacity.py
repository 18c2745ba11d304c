"""Capacity for packed trials: GPUs, or the memory of machines without them, divided into a few sizes of share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import ray

from launch.machines.cluster import MachineShare, Slots, ready, share_of_machine, trials_on
from launch.machines.nodes import Survey
from launch.remote.probe import Storage
from trainables.worker.resources import GPU_CONTEXT_MB, TrialResources
from visionsweep.core.cores import MAX_LOADERS
from visionsweep.core.errors import ConfigError

MARGIN = 1.1  # safety factor on measured or predicted memory
MOST_ON_A_GPU = 8
UNKNOWN_WITHOUT_GPU = 0.5  # of a machine's memory: two unmeasured trials fit beside each other


@dataclass(frozen=True)
class Device:
    """A GPU or, without GPUs, a machine: its memory, and the cores that its trials may use."""

    memory_mb: float
    cpus: float


@dataclass(frozen=True)
class Capacity:
    """Capacity that trials are packed into.

        on_gpus    whether the units are GPUs
        device_mb  memory of the smallest unit, of which shares are parts
        devices    how many of that size there are in all
        fractions  the shares, largest first
        cpus       of a whole share
        cpus_each  of every trial, None for its part of `cpus`
        most       trials at once
        limit      the user's limit of trials at once, or None

    A machine with more memory than the smallest counts as more than one unit, a GPU always as one.
    """

    on_gpus: bool
    device_mb: float
    devices: float
    fractions: tuple[float, ...]
    cpus: float
    cpus_each: float | None
    most: int
    limit: int | None

    def resources(self, fraction: float, measure: bool = False) -> TrialResources:
        cpus = self.cpus_each or self.cpus * fraction
        cpus = float(int(cpus)) if cpus >= 1 else cpus
        # As in `share_of_machine`: beside a GPU the cores are free for loading.
        workers = min(MAX_LOADERS, max(0, int(cpus) - 1)) if self.on_gpus else 0
        return TrialResources(
            fraction, self.device_mb * fraction, cpus, fraction if self.on_gpus else 0.0, workers, measure
        )

    def fraction_for(self, peak_memory_mb: float) -> float:
        """Return the smallest share that holds this memory with a margin, or a whole unit where none does."""
        needed = peak_memory_mb * MARGIN + (GPU_CONTEXT_MB if self.on_gpus else 0.0)
        return min((fraction for fraction in self.fractions if fraction * self.device_mb >= needed), default=1.0)

    def slots(self, device: Device) -> Slots:
        """Return what one more unit adds. Memory beyond whole shares of the smallest size does not count."""
        at_once = MOST_ON_A_GPU if self.cpus_each is None else int(device.cpus / self.cpus_each)
        parts = math.floor(device.memory_mb / self.device_mb / self.fractions[-1] + 1e-9)
        return Slots(at_once, 1.0 if self.on_gpus else parts * self.fractions[-1])

    def slots_of(self, node: Mapping[str, float], gpu_memory_mb: float | None) -> Slots:
        """Return what a machine adds to the room.

        node           Ray's resources of it
        gpu_memory_mb  None where it is known to be enough
        """
        if not self.on_gpus:
            return self.slots(Device(node.get("memory", 0.0) / 2**20, node.get("CPU", 0.0)))
        if gpu_memory_mb is not None and node.get("GPU") and gpu_memory_mb < self.device_mb:
            return Slots(
                0, why_none=f"its GPU has {gpu_memory_mb:.0f} MB, and trials are packed for {self.device_mb:.0f} MB"
            )
        return sum((self.slots(device) for device in _gpus_of(node, self.device_mb, self.cpus_each)), Slots(0))

    def resized(self, total: Slots) -> Capacity:
        """Return this room for the total capacity of all machines now."""
        most = min(total.trials, int(total.devices / self.fractions[-1] + 1e-9))
        return replace(self, devices=total.devices, most=min(most, self.limit or most))

    @property
    def unknown(self) -> float:
        """The share of a trial about which nothing is known."""
        return 1.0 if self.on_gpus or len(self.fractions) == 1 else UNKNOWN_WITHOUT_GPU


def capacity_of(
    devices: Sequence[Device], on_gpus: bool, cpus_each: float | None, max_concurrent: int | None
) -> Capacity:
    """Return the room for units: at least one, each with cores for at least one trial."""
    smallest = min(device.memory_mb for device in devices)
    cpus = min(device.cpus for device in devices)
    at_once = [MOST_ON_A_GPU if cpus_each is None else int(device.cpus / cpus_each) for device in devices]
    each = min(max(at_once), max_concurrent or max(at_once), *([MOST_ON_A_GPU] if on_gpus else []))
    fractions = tuple(0.5**power for power in range(math.ceil(math.log2(each)) + 1))
    capacity = Capacity(on_gpus, smallest, 0.0, fractions, cpus, cpus_each, 0, max_concurrent)
    return capacity.resized(sum((capacity.slots(device) for device in devices), Slots(0)))


def capacity_of_cluster(cpus: float | str | None, gpus: float | str | None, max_concurrent: int | None) -> Capacity:
    """Return the room of the Ray that this process is connected to.

        cpus, gpus      `auto`, a number, or None where nothing was given; one of them is `auto`
        max_concurrent  the user's limit of trials at once, or None

    Raises ConfigError if they contradict each other or the machines, or if Ray knows of no memory.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    have_gpus = sum(node.get("GPU", 0.0) for node in nodes)
    if gpus == "auto":
        if not have_gpus:
            raise ConfigError("--gpus-per-trial auto shares GPUs, and there are none. Give --cpus-per-trial auto.")
        cpus_each = float(cpus) if isinstance(cpus, (int, float)) else None
        devices = _gpu_devices(nodes, cpus_each)
    else:
        if isinstance(gpus, (int, float)) and gpus > 1:
            raise ConfigError(
                f"auto packs several trials on one machine, and --gpus-per-trial {gpus:g} trains one trial on several "
                "GPUs. Give --cpus-per-trial a number, or --gpus-per-trial auto."
            )
        if gpus or (gpus is None and have_gpus):
            raise ConfigError(
                "--cpus-per-trial auto shares the memory of machines for trials without a GPU. Give --gpus-per-trial "
                "auto to share the GPUs, or --gpus-per-trial 0 to leave them idle."
            )
        cpus_each = 1.0
        devices = [Device(node.get("memory", 0.0) / 2**20, node["CPU"]) for node in nodes if node.get("CPU", 0.0) >= 1]
    if not devices or min(device.memory_mb for device in devices) <= 0:
        raise ConfigError(
            "there is nothing that trials could be packed into: no machine with cores for a trial, and a memory that "
            "Ray knows of. Give numbers instead of auto, or start Ray with --num-cpus and --memory."
        )
    return capacity_of(devices, gpus == "auto", cpus_each, max_concurrent)


def _gpu_devices(nodes: Sequence[Mapping[str, float]], cpus_each: float | None) -> list[Device]:
    seen_gb = [node.gpu_memory_gb for node in Survey([], None, None, Storage()).everyone() if node.gpu_memory_gb]
    memory_mb = min(seen_gb, default=0.0) * 1e9 / 2**20
    return [device for node in nodes for device in _gpus_of(node, memory_mb, cpus_each)]


def _gpus_of(node: Mapping[str, float], memory_mb: float, cpus_each: float | None) -> list[Device]:
    """Return the GPUs of a machine, if it has enough cores for trials on them."""
    num_gpus = int(node.get("GPU", 0.0))
    num_cpus = node.get("CPU", 0.0)
    enough = num_gpus > 0 and num_cpus / num_gpus >= (cpus_each or 0.125)
    return [Device(memory_mb, num_cpus / num_gpus)] * num_gpus if enough else []


def plan(
    cpus: float | Literal["auto"] | None, gpus: float | Literal["auto"] | None, max_concurrent: int | None
) -> tuple[MachineShare, Capacity | None]:
    """Return the resources of each trial, and the room that trials are packed into or None.

    Raises ConfigError where the machine does not have that much.
    """
    ready()
    if cpus == "auto" or gpus == "auto":
        capacity = capacity_of_cluster(cpus, gpus, max_concurrent)
        first = capacity.resources(capacity.unknown)
        return MachineShare(first.cpus, first.gpus, capacity.most, first.num_workers), capacity
    return share_of_machine(cpus, gpus, max_concurrent), None


def slots_of(
    share: MachineShare, capacity: Capacity | None, node: Mapping[str, Any], gpu_memory_gb: float | None
) -> Slots:
    """Return what a node of ray.nodes() adds to the result of `plan`."""
    if capacity is None:
        return Slots(trials_on(node["Resources"], share.cpus, share.gpus))
    return capacity.slots_of(node["Resources"], None if gpu_memory_gb is None else gpu_memory_gb * 1e9 / 2**20)
