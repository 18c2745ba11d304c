"""What packing trials by their memory is worth: the same trials, packed, and each with room for the largest.

    python -m benchmarks.packing [--trials 24] [--cpus 2] [--seed 0] [--small]

Random configurations of mixed sizes: 360 drawn images, batches of 8 to 256 at 32 to 128 px. Ray has as much memory as
the largest of them needs with its margin, or two small ones with some air. They run first with `--cpus-per-trial auto`,
without records of earlier trials. Then as many run at once as would fit if all were the largest.

Both are in one run, one after the other. The peak is that of the summed resident memory of the trials' processes,
sampled twice a second. Libraries that they share are counted in each. With --small the trainings are tiny: it shows
that everything runs, and no ratio.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import ray
from PIL import Image
from rich.console import Console

from launch.machines.capacity import MARGIN, Device, capacity_of, plan
from launch.machines.cluster import local_ray, ready
from launch.machines.trial_probe import measure
from launch.search.prepare import RunOptions, prepared
from launch.search.run import start
from search_spaces import Float, Pick, Search
from trainables.data.dataset import Dataset
from trainables.stored_rows import PROCESS_FILE

SEARCH = Search(
    task="binary",
    space={
        "model": {"backbone": Pick("test_resnet", "test_efficientnet", "resnet18")},
        "optimizer": {"name": "sgd", "lr": Float(1e-3, 1e-1, log=True)},
        "batch_size": Pick(8, 16, 32, 256),
        "image_size": Pick(32, 64, 128),
    },
    fixed={"model": {"weights": "none"}, "fit_image": "squash"},
    epochs=6,
    grace_epochs=6,
    sampler="random",
)
SMALLEST: dict[str, object] = {"model/backbone": "test_resnet", "batch_size": 8, "image_size": 32}
LARGEST: dict[str, object] = {"model/backbone": "resnet18", "batch_size": 256, "image_size": 128}

SMALL = replace(
    SEARCH,
    space={**SEARCH.space, "model": {"backbone": "test_resnet"}, "batch_size": Pick(8, 16), "image_size": 32},
    epochs=1,
    grace_epochs=1,
)
LARGEST_OF_SMALL: dict[str, object] = {"batch_size": 16}


@dataclass
class Memory:
    """The memory of the processes of a run's trials. peak_mb: of their sum."""

    run_dir: Path
    pids: set[int] = field(default_factory=set)
    peak_mb: float = 0.0

    def look(self) -> None:
        for path in self.run_dir.glob(f"checkpoints/*/{PROCESS_FILE}"):
            with suppress(OSError, ValueError):
                self.pids.add(int(json.loads(path.read_text())["pid"]))
        self.peak_mb = max(self.peak_mb, sum(resident_mb(pid) for pid in self.pids))


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process, 0 if it has ended."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024
    return 0.0


@contextmanager
def watched(run_dir: Path) -> Iterator[Memory]:
    memory = Memory(run_dir)
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            memory.look()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield memory
    finally:
        done.set()
        watcher.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = drawn_images(Path(folder) / "images", 12 if arguments.small else 180)
        # Size Ray's memory by the needs of the smallest and the largest trial.
        whole = RunOptions(images, arguments.trials, seed=arguments.seed, cache_dir=f"{folder}/cache")
        asked, largest = (SMALL, LARGEST_OF_SMALL) if arguments.small else (SEARCH, LARGEST)
        search, dataset = prepared(asked, whole)
        smallest_mb, largest_mb = needs(search, dataset, whole, arguments.cpus, largest)
        memory_mb = MARGIN * max(largest_mb, 2.3 * smallest_mb)
        at_once = min(arguments.cpus, int(memory_mb / largest_mb / MARGIN + 1e-9))
        print(f"smallest {smallest_mb:.0f} MB, largest {largest_mb:.0f} MB, {memory_mb:.0f} MB in all")
        options = {
            "packed": RunOptions(**{**vars(whole), "cpus_per_trial": "auto"}),
            "worst case": RunOptions(**{**vars(whole), "cpus_per_trial": 1.0, "max_concurrent": at_once}),
        }
        capacity = capacity_of([Device(memory_mb, arguments.cpus)], False, 1.0, None)
        print(
            f"{arguments.trials} trials on {arguments.cpus} cores: packed up to {capacity.most}, else {at_once} at once"
        )
        # Run both searches, one after the other, each on a Ray of its own.
        took: dict[str, float] = {}
        for name, chosen in options.items():
            memory = int(memory_mb * 2**20)
            with local_ray(num_cpus=arguments.cpus, memory=memory):
                ready()
                run_dir = Path(folder) / name.replace(" ", "-")
                started = time.perf_counter()
                with watched(run_dir) as seen:
                    console = Console(quiet=True)
                    records = start(asked, run_dir.name, str(run_dir.parent), chosen, console, time.time())
                took[name] = time.perf_counter() - started
            statuses = [trial.status for trial in records.trials.values()]
            moves = sum(
                json.loads(line)["event"] == "started" for line in (run_dir / "trials.jsonl").read_text().splitlines()
            ) - len(statuses)
            print(
                f"{name:10} {took[name]:7.1f} s, {statuses.count('complete')} complete, {moves} moved, "
                f"peak of the sum {seen.peak_mb:.0f} MB"
            )
    print(f"ratio      {took['packed'] / took['worst case']:7.3f}")


def drawn_images(folder: Path, of_each: int) -> str:
    """Two classes of coloured noise."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "blue")):
        (folder / name).mkdir(parents=True)
        for number in range(of_each):
            pixels = rng.integers(0, 120, (110, 110, 3), dtype=np.uint8)
            pixels[..., 2 * channel] += 120
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")
    return str(folder)


def needs(
    search: Search, dataset: Dataset, options: RunOptions, cpus: int, largest: dict[str, object]
) -> tuple[float, float]:
    """MB of the smallest and of the largest configuration, each in a process of its own."""
    found = []
    with local_ray(num_cpus=cpus):
        share, _ = plan(*options.resources)
        for params in (SMALLEST, largest):
            config = search.draw(_Given(params))
            need = measure(config, dataset, share)
            assert not need.problem, need.problem
            found.append(need.peak_memory_mb)
    assert not ray.is_initialized()
    return found[0], found[1]


class _Given:
    """Substitute for a trial with these values, and the lowest of everything else."""

    def __init__(self, params: dict[str, object]) -> None:
        self.params = params

    def suggest_float(self, name: str, low: float, high: float, **options: object) -> float:
        return low

    def suggest_int(self, name: str, low: int, high: int, **options: object) -> int:
        return low

    def suggest_categorical(self, name: str, choices: object) -> object:
        return self.params[name]


if __name__ == "__main__":
    main()
