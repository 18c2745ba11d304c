"""What the search costs on top of the training: a quickstart search against the bare loop over the same epochs.

    python -m benchmarks.overhead [--trials 32] [--epochs 20]

Two workers on two cores run against two plain processes. The bare loop trains exactly the (configuration, epochs) pairs
that the search trained. It deals them to two processes as they become free, with the data set loaded once in each. Both
sides count from a cold start of Python to the last result. Target: a ratio of at most 1.15.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, help="of a full trial; default: those of quickstart")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        cache = runs / "cache"
        command = [
            Path(sys.executable).with_name("visionsweep"), "run", "quickstart", "--trials", str(arguments.trials),
            "--max-concurrent", str(WORKERS), "--name", "overhead", "--runs-dir", runs, "--cache-dir", cache,
        ]  # fmt: skip
        if arguments.epochs is not None:
            command += ["--set", f"epochs={arguments.epochs}"]
        started = time.perf_counter()
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        search_s = time.perf_counter() - started

        trained = trained_epochs(runs / "overhead")
        started = time.perf_counter()
        bare_epochs = bare_loop(trained, cache)
        bare_s = time.perf_counter() - started

    num_epochs = sum(epochs for _, epochs in trained)
    assert bare_epochs == num_epochs, f"the bare loop trained {bare_epochs} epochs, the search {num_epochs}"
    print(f"{len(trained)} trials, {num_epochs} epochs, {WORKERS} workers")
    print(f"search     {search_s:7.1f} s")
    print(f"bare loop  {bare_s:7.1f} s")
    print(f"ratio      {search_s / bare_s:7.3f}   (target: at most 1.15)")


def trained_epochs(run_dir: Path) -> list[tuple[dict[str, Any], int]]:
    """Return each configuration with the number of its trained epochs, in the order of the proposals."""
    events = [json.loads(line) for line in (run_dir / "trials.jsonl").read_text().splitlines()]
    configs = {event["trial_id"]: event["config"] for event in events if event["event"] == "proposed"}
    ended = {event["trial_id"]: event["epochs"] for event in events if event["event"] == "ended"}
    return [(config, ended[trial_id]) for trial_id, config in configs.items()]


def bare_loop(trained: list[tuple[dict[str, Any], int]], cache: Path) -> int:
    """Train every pair in WORKERS processes, and return the number of epochs."""
    context = multiprocessing.get_context("spawn")  # as Ray's workers, these import torch themselves
    with context.Pool(WORKERS, initializer=_load, initargs=(cache,)) as pool:
        return sum(pool.imap_unordered(_train, trained, chunksize=1))


_DATA: list[Any] = []


def _load(cache: Path) -> None:
    from search_spaces.shipped import SEARCHES
    from trainables.data.formats import load_dataset
    from trainables.data.loader import TrialData
    from trainables.worker.threads import limit_threads

    limit_threads(1)
    image_size = SEARCHES["quickstart"].fixed["image_size"]
    _DATA.append(TrialData(*load_dataset("digits", short_side_px=round(image_size / 0.875), cache_dir=cache)))


def _train(pair: tuple[dict[str, Any], int]) -> int:
    import torch

    from trainables.config.io import parse_config
    from trainables.loop import fit

    config, epochs = pair
    for result in fit(parse_config(config), _DATA[0], torch.device("cpu")):
        if result.epoch == epochs:
            return epochs
    raise AssertionError("the training ended early")


if __name__ == "__main__":
    main()
