"""The machines of a cluster: what each has, and whether it sees the same files. Each is asked by its own task."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray

from launch.machines.placement import task_on
from launch.remote.probe import Storage, problems

ANSWER_S = 60.0  # a machine may have to import torch first
COMPARED = ("visionsweep", "torch", "ray")


@dataclass(frozen=True)
class Node:
    """One machine of a cluster.

        address, name   where it is, and its host name
        cpus, gpus      as Ray counts them
        memory_gb       as Ray counts it
        is_driver       whether it is the machine of this process
        gpu_names       of its GPUs
        gpu_memory_gb   of its smallest GPU
        free_gb         disk space where decoded images are cached
        versions        of Python and libraries
        not_seen        by path, how what it sees differs from what the driver sees
        out_of_reach    what it cannot do on S3, in sentences
        problem         why it did not answer, or ''

    Of a machine that did not answer, only what Ray knows is set, and `problem`.
    """

    address: str
    cpus: float
    gpus: float
    memory_gb: float
    is_driver: bool = False
    name: str = ""
    gpu_names: tuple[str, ...] = ()
    gpu_memory_gb: float = 0.0
    free_gb: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    not_seen: Mapping[str, str] = field(default_factory=dict)
    out_of_reach: tuple[str, ...] = ()
    problem: str = ""


class Survey:
    """Asks machines of the connected Ray what they have, and whether they see what the driver sees.

    A probe file exists between `begin` and `end`, which the machines look for.

        data       files and folders that all must see alike
        runs_dir   a folder that all must be able to write, or None
        cache_dir  where decoded images are cached, or None
        storage    what all must be able to do on S3
    """

    def __init__(self, data: Sequence[Path], runs_dir: Path | None, cache_dir: Path | None, storage: Storage) -> None:
        self.expected = {str(path): looks(path) for path in data}
        self.mark = None if runs_dir is None else runs_dir / f".visionsweep-probe-{uuid.uuid4().hex}"
        self.cache_dir = cache_dir
        self.storage = storage
        self.here = ray.get_runtime_context().get_node_id()

    def begin(self) -> None:
        if self.mark is not None:
            self.mark.write_text("visionsweep")

    def end(self) -> None:
        if self.mark is not None:
            for probe in self.mark.parent.glob(f"{self.mark.name}*"):
                probe.unlink(missing_ok=True)

    def ask(self, node: Mapping[str, Any]) -> Any:
        """Start a task on a node of ray.nodes() and return it, for `answer`."""
        has_gpus = node["Resources"].get("GPU", 0.0) > 0
        return task_on(node["NodeID"], _answer).remote(
            dict(self.expected), self.mark, self.cache_dir, self.storage, has_gpus
        )

    def answer(self, node: Mapping[str, Any], task: Any) -> Node:
        """Return the machine's answer so far."""
        return _node(node, task, node["NodeID"] == self.here)

    def everyone(self) -> list[Node]:
        """Ask all machines and return them, the driver's own first."""
        alive = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeID"] != self.here)
        self.begin()
        try:
            tasks = [self.ask(node) for node in alive]
            ray.wait(tasks, num_returns=len(tasks), timeout=ANSWER_S)
            return [self.answer(node, task) for node, task in zip(alive, tasks, strict=True)]
        finally:
            self.end()


def looks(path: Path) -> str:
    """Describe a path in words that can be compared between machines."""
    try:
        if path.is_dir():
            return f"a folder of {len(os.listdir(path))} entries"
        return f"a file of {path.stat().st_size} bytes"
    except OSError as error:
        return f"not there ({error.strerror})"


def _answer(
    expected: dict[str, str], mark: Path | None, cache_dir: Path | None, storage: Storage, has_gpus: bool
) -> dict[str, Any]:
    """Collect the answer, on the machine itself."""
    not_seen = {path: found for path, was in expected.items() if (found := looks(Path(path))) != was}
    if mark is not None:
        not_seen |= _runs_dir_problem(mark)
    names, gpu_memory_gb = _gpus() if has_gpus else ((), 0.0)  # torch takes seconds to import
    free_gb = 0.0
    if cache_dir is not None:
        there = next(folder for folder in (cache_dir, *cache_dir.parents) if folder.exists())
        free_gb = shutil.disk_usage(there).free / 1e9
    return {
        "name": socket.gethostname(),
        "gpu_names": names,
        "gpu_memory_gb": gpu_memory_gb,
        "free_gb": free_gb,
        "versions": versions(),
        "not_seen": not_seen,
        "out_of_reach": problems(storage),
    }


def _runs_dir_problem(mark: Path) -> dict[str, str]:
    """Return the problem if the driver's probe file is missing here, or no file can be written beside it."""
    if not mark.exists():
        return {str(mark.parent): "not the driver's folder (a file that it wrote is not there)"}
    try:
        mark.with_name(f"{mark.name}-{uuid.uuid4().hex}").write_text("visionsweep")
    except OSError as error:
        return {str(mark.parent): f"cannot be written ({error.strerror})"}
    return {}


def _gpus() -> tuple[tuple[str, ...], float]:
    """Return the names of the GPUs, and the memory of the smallest one in GB."""
    with suppress(Exception):  # no driver, or none that torch can use
        import torch

        found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        if found:
            return tuple(one.name for one in found), min(one.total_memory for one in found) / 1e9
    return (), 0.0


def versions() -> dict[str, str]:
    """Return the versions that must agree between machines."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for library in COMPARED:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found


def _node(node: Mapping[str, Any], task: Any, is_driver: bool) -> Node:
    resources = node["Resources"]
    basics: dict[str, Any] = {
        "address": node["NodeManagerAddress"],
        "cpus": resources.get("CPU", 0.0),
        "gpus": resources.get("GPU", 0.0),
        "memory_gb": resources.get("memory", 0.0) / 1e9,
        "is_driver": is_driver,
    }
    try:
        return Node(**basics, **ray.get(task, timeout=0.1))
    except ray.exceptions.GetTimeoutError:
        return Node(**basics, problem=f"did not answer within {ANSWER_S:.0f} s")
    except Exception as error:
        last = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        return Node(**basics, problem=last[:300])
