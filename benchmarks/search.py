"""How good is the search itself? Ours against what else there is, on real learning curves under a virtual clock.

    python -m benchmarks.search [--tasks development|judging|all|own|NAME...] [--methods NAME...] [--workers 8 64]
                                [--budgets 15 30 60] [--seeds 10] [--out runs/search-benchmark] [--jobs 2]

A budget counts full trainings of a mean random configuration, divided among the workers. With 8 workers and a budget of
30, each has the time of 30/8 of them. A run goes to the largest budget and is read at the others on its way.

Regret is 0 at the best value known of a task and 1 at a median random configuration's (`blackboxes.Scale`). The
incumbent is the best value that any trial has shown at any epoch, for every method alike. `clairvoyant` is no method
but the floor: what could be shown with everything known beforehand (clairvoyant.py).

Every run is one line of OUT/results.jsonl as soon as it is done, and the same command resumes an interrupted one. Runs
of other methods on the judging tasks are kept in peers.jsonl.gz, and not run again.

Needs `pip install onnxruntime`, and `"syne-tune[basic]==0.16"` for Syne Tune's methods. Those with a model (bohb,
ashabore, ashacqr) take a minute and more for a run.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.blackboxes import DATA, DEVELOPMENT, JUDGING, OWN_TASKS, TASKS, scale
from benchmarks.clairvoyant import clairvoyant
from benchmarks.peers import PEERS, SYNE_TUNE
from benchmarks.regrets import CLAIRVOYANT, plot, tables
from benchmarks.simulate import Clock, incumbent, p50_p99, simulate
from visionsweep.core.errors import InputError
from visionsweep.core.names import pick

GROUPS = {"development": DEVELOPMENT, "judging": JUDGING, "all": (*DEVELOPMENT, *JUDGING), "own": OWN_TASKS}
KEPT = Path(__file__).with_name("peers.jsonl.gz")  # lines as in results.jsonl, made by this command
METHODS = ("ours", CLAIRVOYANT, *PEERS)


class Run(NamedTuple):
    """A simulation. budget: in full trainings."""

    task: str
    method: str
    workers: int
    seed: int
    budget: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["development"], help=f"{', '.join(GROUPS)}, or names")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help=", ".join(METHODS))
    parser.add_argument("--workers", nargs="+", type=int, default=[8, 64])
    parser.add_argument("--budgets", nargs="+", type=float, default=[15.0, 30.0, 60.0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/search-benchmark"))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    tasks = [task for name in options.tasks for task in GROUPS.get(name, (name,))]
    if not tasks:
        parser.error("there is no file in benchmarks/curves. Make one with benchmarks/curves.py.")
    if not DATA.is_dir() and not set(tasks) <= set(OWN_TASKS):
        parser.error(f"the learning curves are not at {DATA}. Put the folder hpo/ of the shared data there.")
    try:
        for task in tasks:
            pick(TASKS, task, "task")
            if task in OWN_TASKS:
                TASKS[task]()  # refuses a damaged file
        for method in options.methods:
            pick(dict.fromkeys(METHODS), method, "method")
    except InputError as error:
        parser.error(str(error))
    if not SYNE_TUNE:
        print("Syne Tune is not installed: its methods are left out.")
    runs = [
        Run(task, method, workers, seed, max(options.budgets))
        for seed in range(options.seeds)  # the outer loop: what is cut off early has something of everything
        for workers in options.workers
        for task in tasks
        for method in options.methods
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    results = list(run_all(runs, options.out / "results.jsonl", options.jobs))
    print(tables(results, sorted(options.budgets)))
    plot(results, max(options.budgets), options.out / "regret.html")
    print(f"\nregret over time: {options.out / 'regret.html'}")


def run_all(runs: Sequence[Run], path: Path, jobs: int) -> Iterator[dict[str, Any]]:
    """Yield the results of `runs`: first those that are kept or in the file, then the others.

    The others are run by `jobs` processes and appended to the file.
    """
    lines = sorted((*kept(), *_whole_lines(path)), key=lambda line: float(line["budget"]))  # the longest run counts
    known = {Run(**{key: line[key] for key in Run._fields})._replace(budget=0.0): line for line in lines}
    missing = []
    for run in runs:
        line = known.get(run._replace(budget=0.0))
        if line is not None and line["budget"] >= run.budget:  # no method knows its budget, so a longer run began alike
            yield line
        else:
            missing.append(run)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread each: there are `jobs` of them
    context = multiprocessing.get_context("spawn")
    with path.open("a") as file, context.Pool(jobs) as pool:
        for number, result in enumerate(pool.imap_unordered(run_one, missing), start=1):
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(
                f"[{number}/{len(missing)}] {result['method']} on {result['task']}, {result['workers']} workers, "
                f"seed {result['seed']}: regret {result['regret'][-1]:.3f}, {result['wall_s']:.1f} s",
                flush=True,
            )
            yield result


def run_one(run: Run) -> dict[str, Any]:
    """Simulate one run. `spent` (full trainings) and `regret` are the steps of the incumbent, the rest is costs."""
    task = scale(run.task)
    black_box = TASKS[run.task]()
    clock = Clock()
    budget_s = run.budget * task.mean_full_s / run.workers
    started = time.perf_counter()
    if run.method == CLAIRVOYANT:
        simulation = clairvoyant(black_box, budget_s)
    else:
        if run.method == "ours":
            from benchmarks.ours import method_ours

            method: Any = method_ours(black_box, run.seed, run.workers, budget_s, clock)
        else:
            method = PEERS[run.method](black_box, run.seed)
        simulation = simulate(method, black_box, workers=run.workers, budget_s=budget_s, clock=clock)
    times, values = incumbent(simulation, black_box.mode)
    statuses = [trial.status for trial in simulation.trials.values()]
    return {
        **run._asdict(),
        "spent": [0.0, *(times * run.workers / task.mean_full_s).tolist()],
        "regret": [1.0, *(task.regret(value) for value in values)],
        "trials": {status: statuses.count(status) for status in sorted(set(statuses))},
        "suggest_p50_p99_s": p50_p99(simulation.suggest_s),
        "epoch_p50_p99_s": p50_p99(simulation.epoch_s),
        "decisions_s": float(np.sum(simulation.suggest_s) + np.sum(simulation.epoch_s)),
        "wall_s": time.perf_counter() - started,
    }


def kept() -> Iterator[dict[str, Any]]:
    """Yield the kept results of slow and unchanging methods, none of them ours. They take an hour and are not rerun."""
    with gzip.open(KEPT, "rt") as file:
        yield from map(json.loads, file)


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the results of an earlier command. A torn last line is cut off the file."""
    if path.exists():
        raw = path.read_bytes()
        os.truncate(path, raw.rfind(b"\n") + 1)
        yield from map(json.loads, raw.splitlines()[: raw.count(b"\n")])


if __name__ == "__main__":
    main()
