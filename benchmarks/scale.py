"""How far one driver carries: what a decision costs, and what memory the driver takes, as the trials of a run grow.

    python -m benchmarks.scale [--trials 100 1000 10000] [--more 200] [--ray 100 500]

Trials do nothing: only the driver's work for them is timed, with the terminal's table, the records and the study's
journal. The first part is on a virtual clock: a run with so many trials continues for `--more`. The second is through
real Ray on this machine, from the first trial. Each size runs in a process of its own.

The table has milliseconds (p50 / p99) of:

    a proposal
    an epoch, decided and recorded
    a trial's end, ranked, with the weights of others deleted
    drawing the live table once (one number)

It also has the seconds in which a stopped run is rebuilt, and the growth of the driver's memory.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import io
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from ray import cloudpickle, tune
from rich.console import Console

from benchmarks.simulate import Floats, p50_p99, simulate
from benchmarks.simulate_ray import RayMethod
from launch.machines.cluster import local_ray, ready
from launch.pruners.pruning import build_scheduler
from launch.samplers.encoding import Encoder
from launch.search.callback import RunCallback
from launch.search.hang_detection import HangDetector
from launch.search.progress import Progress
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from launch.search.tuning import MAX_RETRIES, tune_until_done
from launch.tracking.journal import Journal
from launch.trial_notes import TrialNotes
from search_spaces.shipped import SEARCHES
from visionsweep.core.names import COSTS
from visionsweep.run_dir.trials import Trial

SEARCH = SEARCHES["quickstart"].for_task("multiclass")
METRIC = "val/accuracy"
WORKERS = 16
Parts = tuple[Records, StudySearcher, Progress, RunCallback]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--more", type=int, default=200)
    parser.add_argument("--ray", type=int, nargs="*", default=[100, 500])
    arguments = parser.parse_args()
    print(f"{'':22}{'proposal':>16}{'epoch':>16}{'end':>16}{'table':>8}{'rebuilt':>9}{'memory':>9}")
    jobs = [(f"{num} trials", virtual, (num, arguments.more)) for num in arguments.trials]
    jobs += [(f"{num} trials, Ray", through_ray, (num,)) for num in arguments.ray]
    for name, job, sizes in jobs:
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # its memory is its own
            print_row(name, pool.apply(job, sizes))


@dataclass
class Measured:
    """Seconds of each call, and the driver's memory in MB that came with the trials. note: remarks."""

    suggest_s: list[float] = field(default_factory=list)
    epoch_s: list[float] = field(default_factory=list)
    end_s: list[float] = field(default_factory=list)
    table_s: float = 0.0
    rebuilt_s: float = 0.0
    memory_mb: float = 0.0
    note: str = ""


def virtual(num_trials: int, more: int) -> Measured:
    """Continue a run of `num_trials` for `more`, as `benchmarks.simulate` drives it."""
    measured = Measured()
    before_mb = memory_mb()
    with tempfile.TemporaryDirectory() as folder:
        recorded = drawn_trials(num_trials)
        began = time.perf_counter()
        records, searcher, progress, callback = driver(Path(folder), {trial.trial_id: trial for trial in recorded})
        scheduler = build_scheduler(SEARCH, recorded)
        measured.rebuilt_s = time.perf_counter() - began
        method = RayMethod(searcher, scheduler, METRIC, SEARCH.epochs, callback)
        for name, into in (("suggest", "suggest_s"), ("on_epoch", "epoch_s"), ("on_end", "end_s")):
            setattr(method, name, timed(getattr(method, name), getattr(measured, into)))
        simulate(method, Curves(), workers=WORKERS, num_trials=more)
        measured.table_s = table_s(progress)
        records.close_listeners()
        measured.memory_mb = memory_mb() - before_mb
    return measured


def through_ray(num_trials: int) -> Measured:
    """Run `num_trials` from the first on, by Ray Tune, in two processes that train nothing."""
    measured = Measured()
    cloudpickle.register_pickle_by_value(sys.modules[Nothing.__module__])  # Ray's workers do not import this file
    with tempfile.TemporaryDirectory() as folder, local_ray(num_cpus=2):
        ready()
        records, searcher, progress, callback = driver(Path(folder), {}, num_trials)
        searcher.at_once = lambda: 2
        searcher.suggest = timed(searcher.suggest, measured.suggest_s)
        callback.on_trial_result = timed(callback.on_trial_result, measured.epoch_s)
        callback.on_trial_complete = timed(callback.on_trial_complete, measured.end_s)
        watch = HangDetector(records.run_dir, MAX_RETRIES, searcher.notes)
        before_mb = memory_mb()
        began = time.perf_counter()
        cpu = time.process_time()
        tune_until_done(tune.with_resources(Nothing, {"cpu": 1}), searcher, SEARCH, callback, watch, 2)
        lasted_s = time.perf_counter() - began
        cpu_s = time.process_time() - cpu
        measured.memory_mb = memory_mb() - before_mb
        measured.table_s = table_s(progress)
        num_epochs = len(measured.epoch_s)
        measured.note = f"{lasted_s:.0f} s for {num_epochs} epochs, of which the driver computed {cpu_s:.0f} s"
        records.close_listeners()
    return measured


def driver(folder: Path, trials: dict[str, Trial], num_trials: int | None = None) -> Parts:
    """Build the parts that `launch.search.run` puts together."""
    records = Records.create(folder / "run", {"name": "scale"})
    records.trials = trials
    notes = TrialNotes()
    searcher = StudySearcher(SEARCH, records, 0, num_trials, deadline=None, notes=notes)
    progress = Progress(records, SEARCH, Console(file=io.StringIO(), width=160), num_trials, None)
    callback = RunCallback(records, SEARCH, progress, 5, notes)
    records.listen(Journal(records.run_dir / "study.journal", "scale", SEARCH, trials.values()))
    return records, searcher, progress, callback


class Curves:
    """Curves that rise to a value which the parameters say, without sense."""

    space: Mapping[str, Any] = SEARCH.full_space
    mode = "max"
    epochs = SEARCH.epochs

    def curve(self, config: Mapping[str, Any]) -> Floats:
        return curve(config)

    def seconds_per_epoch(self, config: Mapping[str, Any]) -> float:
        return 10.0 + config["batch_size"]


def curve(config: Mapping[str, Any]) -> Floats:
    """Return a rising curve, (epochs,)."""
    final = 0.7 + 0.2 * math.sin(1e4 * config["optimizer"]["lr"])
    rising: Floats = final * (1 - np.exp(-np.arange(1, SEARCH.epochs + 1) / 6))
    return rising


class Nothing(tune.Trainable):  # type: ignore[misc]
    """Report at once what `VisionTrainable` would report."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.trial, self.epoch, self.curve = new_config["trial_id"], 0, curve(new_config["config"])
        return True

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        value = float(self.curve[self.epoch - 1])
        last = self.epoch == SEARCH.epochs
        return {
            **dict.fromkeys(COSTS, 1.0),
            "trial_id": self.trial,
            "status": "complete" if last else "running",
            "reason": "",
            "done": last,
            "epoch": self.epoch,
            "metrics": {METRIC: value},
            METRIC: value,
            "seconds": 1.0,
            "images_per_s": 1.0,
            "lr": 0.1,
        }


def drawn_trials(num: int) -> list[Trial]:
    """Trials as a run directory would hold them: most ended at the first rung."""
    encoder = Encoder(SEARCH.full_space)
    rng = np.random.default_rng(1)
    trials = []
    for number, row in enumerate(encoder.sample(rng, num)):
        params = encoder.decode(row)
        config = SEARCH.draw(optuna.trial.FixedTrial(params))
        epochs = int(rng.choice([4, 12, SEARCH.epochs], p=[6 / 9, 2 / 9, 1 / 9]))
        trial_id = f"{number:04d}"
        costs = dict.fromkeys(COSTS, 1.0)
        rows = [
            {"trial_id": trial_id, "epoch": epoch, "metrics": {METRIC: float(value)}, "seconds": 10.0, **costs}
            for epoch, value in enumerate(curve(config)[:epochs], start=1)
        ]
        trials.append(Trial(trial_id, params, config, rows, "complete" if epochs == SEARCH.epochs else "pruned"))
    return trials


def timed(call: Callable[..., Any], into: list[float]) -> Callable[..., Any]:
    def timed_call(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            into.append(time.perf_counter() - began)

    return timed_call


def table_s(progress: Progress) -> float:
    """Seconds of drawing the live table once, which a terminal does twice a second."""
    began = time.perf_counter()
    for _ in range(10):
        progress.console.print(progress.live.renderable)
    return (time.perf_counter() - began) / 10


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def print_row(name: str, measured: Measured) -> None:
    times = (measured.suggest_s, measured.epoch_s, measured.end_s)
    pairs = [" / ".join(f"{1000 * value:.2f}" for value in p50_p99(np.array(seconds))) for seconds in times]
    shown = "".join(f"{pair:>16}" for pair in pairs)
    rebuilt = f"{measured.rebuilt_s:.1f} s" if measured.rebuilt_s else ""
    print(f"{name:22}{shown}{1000 * measured.table_s:>8.1f}{rebuilt:>9}{measured.memory_mb:>6.0f} MB", flush=True)
    if measured.note:
        print(f"  {measured.note}", flush=True)


if __name__ == "__main__":
    main()
