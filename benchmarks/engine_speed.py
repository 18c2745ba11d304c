"""What the search engine itself costs when a search is large: no training, no Ray runtime, the real decisions.

    python -m benchmarks.engine_speed [--trials 10000] [--workers 1000] [--proposals 30]

The first part is the time of a proposal with so many trials recorded, in a conditional space of 25 parameters. Optuna's
default TPESampler is timed beside it, on the same trials in the same process.

The second is a whole search on virtual workers, written to a real run directory. Every call of the searcher and the
scheduler is timed.

OMP_NUM_THREADS=1 is set here: on many cores the small matrices of a proposal only lose time to threads.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.ours import Recorder
from benchmarks.simulate import Floats, p50_p99, simulate
from benchmarks.simulate_ray import RayMethod
from launch.pruners.pruning import build_scheduler
from launch.samplers.encoding import Encoder
from launch.samplers.replay import Replay
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces.grammar import Branch, Float, Int, Maybe, Pick
from search_spaces.search import Search
from visionsweep.run_dir.trials import Trial

EPOCHS = 27
METRIC = "val/accuracy"
BACKBONES = ("resnet18", "resnet50", "efficientnet_b0", "convnext_tiny", "vit_small")
SEARCH = Search(
    task="multiclass",
    metric=METRIC,
    epochs=EPOCHS,
    grace_epochs=3,
    space={
        "backbone": Pick(*BACKBONES),
        "head": Branch({"linear": {"dropout": Float(0, 0.5)}, "mlp": {"hidden": Int(64, 512, log=True)}}),
        "optimizer": Branch(
            {
                "sgd": {"lr": Float(1e-4, 0.3, log=True), "momentum": Float(0.8, 0.99), "decay": Float(0, 1e-3)},
                "adamw": {"lr": Float(1e-5, 1e-2, log=True), "decay": Float(1e-4, 0.1, log=True)},
            }
        ),
        "schedule": Branch({"cosine": {"final": Float(0, 0.1)}, "steps": {"gamma": Float(0.1, 0.5), "num": Int(1, 4)}}),
        "rotate": Maybe({"p": Float(0.2, 1), "degrees": Float(5, 30)}),
        "mix": Maybe({"alpha": Float(0.1, 0.8)}),
        "loss": Branch({"cross_entropy": {"smoothing": Float(0, 0.2)}, "focal": {"gamma": Float(0.5, 3)}}),
        "batch_size": Pick(16, 32, 64),
        "image_size": Int(96, 224, step=32),
        "ema_decay": Pick(None, 0.99, 0.999),
    },
).for_task("multiclass")


class Smooth:
    """A curve that rises to the worth of a configuration: a quadratic bowl over numbers, steps for choices.

    A bad learning rate diverges. Larger backbones take longer.
    """

    space: Mapping[str, Any] = SEARCH.space
    mode = "max"
    epochs = EPOCHS

    def __init__(self) -> None:
        self.encoder = Encoder(SEARCH.full_space)
        self.middle = np.random.default_rng(0).uniform(0.2, 0.8, len(self.encoder))

    def curve(self, config: Mapping[str, Any]) -> Floats:
        apart = self._row(config) - self.middle
        final = 0.9 - 0.15 * float(np.nansum(apart**2))
        curve = final * (1 - np.exp(-np.arange(1, EPOCHS + 1) / 6))
        optimizer = config["optimizer"]
        if optimizer["name"] == "sgd" and optimizer["lr"] > 0.2:
            curve[5:] = math.nan
        return curve

    def seconds_per_epoch(self, config: Mapping[str, Any]) -> float:
        return 30.0 * (1 + BACKBONES.index(config["backbone"]))

    def _row(self, config: Mapping[str, Any]) -> Floats:
        return self.encoder.encode(SEARCH.encode(config))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--proposals", type=int, default=30)
    arguments = parser.parse_args()

    print(f"{len(Encoder(SEARCH.full_space))} parameters, {arguments.trials} recorded trials")
    print(f"{'':26}{'p50 ms':>10}{'p99 ms':>10}{'in all s':>10}")
    recorded = drawn_trials(arguments.trials)
    for name, prepare in (("proposal, ours", ours), ("proposal, stock TPE", stock_tpe)):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            propose = prepare(recorded, Path(folder))
            print_row(f"{name}: rebuilt in", np.array([]), time.perf_counter() - started)
            print_row(name, timed(propose, arguments.proposals))

    print(f"\na search of {arguments.trials} trials on {arguments.workers} virtual workers")
    started = time.perf_counter()
    simulation = searched(arguments.trials, arguments.workers)
    wall_s = time.perf_counter() - started
    print_row("decision: a proposal", simulation.suggest_s)
    print_row("decision: an epoch", simulation.epoch_s)
    print_row("the whole search", np.array([]), wall_s)
    statuses = [trial.status for trial in simulation.trials.values()]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))
    print(f"{counts}; {len(simulation.rows)} epochs in {simulation.end_s / 3600:.1f} virtual hours")


def drawn_trials(num: int) -> list[Trial]:
    """Return random trials as a run directory would hold them, two thirds of them ended at the first rung."""
    encoder = Encoder(SEARCH.full_space)
    black_box = Smooth()
    rng = np.random.default_rng(1)
    trials = []
    for number, row in enumerate(encoder.sample(rng, num)):
        params = encoder.decode(row)
        config = SEARCH.draw(optuna.trial.FixedTrial(params))
        curve = black_box.curve(config)
        seconds = black_box.seconds_per_epoch(config)
        epochs = int(rng.choice([3, 9, EPOCHS], p=[6 / 9, 2 / 9, 1 / 9]))
        rows = [
            {"trial_id": f"{number:04d}", "epoch": epoch, "metrics": {METRIC: float(value)}, "seconds": seconds}
            for epoch, value in enumerate(curve[:epochs], start=1)
            if math.isfinite(value)
        ]
        status = "diverged" if len(rows) < epochs else "complete" if epochs == EPOCHS else "pruned"
        trials.append(Trial(f"{number:04d}", params, config, rows, status))
    return trials


def ours(recorded: list[Trial], folder: Path) -> Callable[[int], object]:
    """Return our searcher on the recorded trials. Its proposals stay running."""
    records = Records.create(folder / "run", {"name": "speed"})
    records.trials = {trial.trial_id: trial for trial in recorded}
    searcher = StudySearcher(SEARCH, records, 0, num_trials=None, deadline=None, valid=lambda config: None)
    return lambda number: searcher.suggest(f"ray-{number}")


def stock_tpe(recorded: list[Trial], folder: Path) -> Callable[[int], object]:
    """Return Optuna's default sampler on the same trials. Pruned trials are pruned, and diverged ones failed."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    replay = Replay(SEARCH)
    study.add_trials([replay.frozen(trial) for trial in recorded])
    return lambda number: SEARCH.draw(study.ask())


def timed(propose: Callable[[int], object], num: int) -> Floats:
    """Return the seconds of one proposal after the other, (num,)."""
    found = []
    for number in range(num):
        started = time.perf_counter()
        propose(number)
        found.append(time.perf_counter() - started)
    return np.array(found)


def searched(num_trials: int, workers: int) -> Any:
    """A whole search with our searcher and scheduler, into a real run directory."""
    folder = tempfile.TemporaryDirectory(prefix="visionsweep-speed-")
    records = Records.create(Path(folder.name) / "run", {"name": "speed"})
    searcher = StudySearcher(SEARCH, records, 0, num_trials=None, deadline=None, valid=lambda config: None)
    method = RayMethod(searcher, build_scheduler(SEARCH), METRIC, EPOCHS, Recorder(records, folder))
    try:
        return simulate(method, Smooth(), workers=workers, num_trials=num_trials)
    finally:
        folder.cleanup()


def print_row(name: str, seconds: Floats, total_s: float | None = None) -> None:
    p50, p99 = (f"{1000 * value:.2f}" if len(seconds) else "" for value in p50_p99(seconds))
    print(f"{name:26}{p50:>10}{p99:>10}{seconds.sum() if total_s is None else total_s:>10.1f}", flush=True)


if __name__ == "__main__":
    main()
