"""Searches with `--cpus-per-trial auto` on a Ray of three cores and a little memory, in a process of their own.

    python packed_searches.py FOLDER

FOLDER holds photos/, and the runs go to FOLDER/runs. Run `a` is resumed. Run `b` is its copy, in which every peak of
memory was made small and every trial has a large batch. The trials of run `f` are judged on three folds. It is resumed
too.

The memory of a small trial is measured first, as libraries differ in size between machines. Ray's memory holds four of
those, or two large ones.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from launch.machines.capacity import MARGIN
from launch.machines.cluster import local_ray, ready
from launch.machines.trial_probe import _step
from launch.search.prepare import RunOptions, prepared
from launch.search.run import resume, start
from search_spaces import Float, Pick, Search

LARGE = 128
EPOCHS = 5  # longer than it takes a fast machine to start the process of the next trial
SEARCH = Search(
    task="binary",
    space={"batch_size": Pick(4, 8, LARGE), "optimizer": {"name": "sgd", "lr": Float(1e-3, 1e-1, log=True)}},
    fixed={"model": {"backbone": "test_resnet", "weights": "none"}, "image_size": 96},
    epochs=EPOCHS,
    grace_epochs=EPOCHS,
    sampler="random",
)
FOLDED = replace(SEARCH, epochs=2, grace_epochs=2, pruner="none")
NUM_FOLDS = 3


def main() -> None:
    folder = Path(sys.argv[1])
    console = Console(width=160)
    runs = folder / "runs"
    options = RunOptions(
        str(folder / "photos"), num_trials=6, cpus_per_trial="auto", seed=2, cache_dir=str(folder / "cache")
    )
    search, dataset = prepared(SEARCH, options)
    drawn = {**search.fixed, "task": "binary", "batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.01}, "epochs": 1}
    small_mb, _ = _step(drawn, dataset, gpus=0, cpus=1)
    memory = int(4 * 1.12 * MARGIN * small_mb * 2**20)
    print("small", small_mb, "in all", memory / 2**20)
    with local_ray(num_cpus=3, memory=memory):
        ready()
        start(SEARCH, "a", str(runs), options, console, time.time())
        resume(str(runs / "a"), 1, None, None, console, time.time())
        forge(runs / "a", runs / "b", small_mb)
        resume(str(runs / "b"), 1, None, None, console, time.time())
        start(FOLDED, "f", str(runs), replace(options, folds=NUM_FOLDS), console, time.time())
        resume(str(runs / "f"), 1, None, None, console, time.time())


def forge(old: Path, new: Path, peak_memory_mb: float) -> None:
    """Copy a run so that its recorded trials look small and its next ones are large."""
    shutil.copytree(old, new)
    search = json.loads((new / "search.json").read_text())
    search["search"]["fixed"]["batch_size"] = LARGE
    (new / "search.json").write_text(json.dumps(search))
    for name, key in (("epochs.jsonl", "peak_memory_mb"), ("trials.jsonl", "memory_mb")):
        rows = [json.loads(line) for line in (new / name).read_text().splitlines()]
        forged = [{**row, key: peak_memory_mb} if key in row else row for row in rows]
        (new / name).write_text("".join(json.dumps(row) + "\n" for row in forged))


if __name__ == "__main__":
    main()
