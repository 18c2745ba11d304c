"""Compatibility of a cluster's machines: the same versions, the same data, one runs folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ray

from launch.machines.cluster import ready
from launch.machines.nodes import Node, Survey, looks, versions
from launch.remote.location import RunLocation
from launch.remote.probe import storage_of
from trainables.data.dataset import Dataset
from visionsweep.core.errors import RunError


@dataclass(frozen=True)
class Finding:
    """One line of the report on the machines.

    text    what was found
    advice  what to do, empty where all is well
    fatal   whether a search must not start
    """

    text: str
    advice: str = ""
    fatal: bool = False

    @property
    def good(self) -> bool:
        return not self.advice


def data_paths(dataset: Dataset) -> list[Path]:
    """Return the paths of the data that every machine must see, none for data that is built in, downloaded or on S3."""
    path = Path(dataset.spec).expanduser()
    if not path.exists():
        return []
    return (
        [path.resolve(), *sorted(one.resolve() for one in path.iterdir() if one.is_dir())] if path.is_dir() else [path]
    )


def look_at_nodes(nodes: Sequence[Node]) -> list[Finding]:
    """Return one line for each machine, and one for each problem with it."""
    return [finding for node in nodes for finding in look_at_node(node)]


def look_at_node(node: Node) -> list[Finding]:
    who = f"{node.address}{' (this machine)' if node.is_driver else ''}"
    if node.problem:
        advice = "See that visionsweep is installed there, in the Python that Ray was started with."
        return [Finding(f"{who}: {node.problem}", advice, fatal=True)]
    found = [Finding(f"{who}: {_means(node)}")]
    differing = [
        f"{name} {node.versions.get(name, 'missing')} (here {mine})"
        for name, mine in versions().items()
        if node.versions.get(name) != mine
    ]
    if differing:
        advice = "Install the same ones there, with constraints.txt."
        found.append(Finding(f"{who}: has {', '.join(differing)}", advice, fatal=True))
    for path, how in node.not_seen.items():
        advice = "Put it on a folder that all machines share, under the same path, or give one that is shared."
        found.append(Finding(f"{who}: {path} is {how}; here it is {looks(Path(path))}", advice, fatal=True))
    for problem in node.out_of_reach:
        advice = "Every machine needs this, for data and runs on S3."
        found.append(Finding(f"{who}: {problem.rstrip('.')}", advice, fatal=True))
    return found


def _means(node: Node) -> str:
    parts = [f"{node.cpus:g} CPUs", f"{node.memory_gb:.0f} GB memory"]
    if node.gpus:
        names = ", ".join(sorted(set(node.gpu_names))) or "which torch does not see"
        parts.append(f"{node.gpus:g} GPUs ({names}, {node.gpu_memory_gb:.0f} GB)")
    return ", ".join(parts)


@dataclass(frozen=True)
class Shared:
    """What all machines of a run must see alike, or reach on S3: the data, the runs folder and the versions."""

    dataset: Dataset
    location: RunLocation
    cache_dir: Path | None

    def asking(self) -> Survey:
        runs_dir = self.location.folder.resolve().parent if self.location.remote is None else None
        return Survey(data_paths(self.dataset), runs_dir, self.cache_dir, storage_of(self.dataset, self.location))

    def require(self) -> None:
        """Check all machines before a search on several of them. Raises RunError with every problem."""
        ready()
        if sum(node["Alive"] for node in ray.nodes()) < 2:
            return
        fatal = [finding for finding in look_at_nodes(self.asking().everyone()) if finding.fatal]
        if fatal:
            raise RunError("the machines of the cluster do not fit together.\n" + "\n".join(map(in_words, fatal)))


def in_words(finding: Finding) -> str:
    return f"  {finding.text}. {finding.advice}" if finding.advice else f"  {finding.text}"
