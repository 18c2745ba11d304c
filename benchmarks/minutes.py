"""Real photos and a real budget: what `visionsweep run` hands over, against a probe, a good hand, and the stock search.

    python -m benchmarks.minutes --budget 60s [--sets photos] [--methods ours stock hand probe] [--seeds 1]
                                 [--out runs/minutes.jsonl] [--runs-dir runs/minutes] [--data ../shared/data]
                                 [--search SEARCH] [--set key=value ...] [--read-only] [--records FILE]

Every method sees the training rows of a set alone and is judged on its test rows, which nothing else looks at.

    ours   `visionsweep run` for the budget, then `visionsweep export`, which writes what the run recommends
    stock  the same command with Optuna's TPE and Ray's ASHA, then the best trial
    hand   one fine-tuning of all training rows that fills the budget: of photos from a probe's head, at 160 px, of
           masks an FPN with cross-entropy and dice (`minutes_tuning.py`)
    probe  photos only, once for all budgets: logistic regression on frozen features at 224 px of three backbones, and
           of all together. Cross-validation chooses among the four, and C (`minutes_hands.py`)

Errors are 1 - accuracy, 1 - mAP or 1 - mIoU. All methods have the same packaged weights and all cores. They run one
after the other, each in processes of its own. Wall-clock counts from Enter: it includes imports, but not the prediction
of the test rows. No search finds another's caches. `!` marks where ours is behind the probe by more than two standard
errors.

Each result is a line of --out as soon as it is there. A small row of it, with the commit, is kept in
benchmarks/records/minutes.jsonl. `minutes_records.py` prints tables from the rows of several runs.

The same command again runs what is missing, so Ctrl-C loses only the running part. Measure on an idle machine, and name
another --out for another version.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.minutes_records import RECORDS, commit, row_of
from benchmarks.minutes_scores import METHODS, Record, table
from benchmarks.minutes_sets import SHARED, Labelled, sets_below
from visionsweep.core.errors import InputError, RunError

# A hand's process imports this file again, which counts. So torch and the rooms are imported where they are used.

CPUS = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Job:
    """A result, one line of the file. budget_s: None for the probe, which has no budget."""

    set: str
    method: str
    budget_s: float | None
    seed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget", default="60s", help="such as 60s, 5m or 15m")
    parser.add_argument("--sets", nargs="+", default=["all"], help="names of sets, or all, photos, masks")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/minutes.jsonl"))
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/minutes"), help="where the searches' records stay")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--search", help="instead of classification-cpu and segmentation-cpu")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where a row of each result is kept")
    parser.add_argument("--read-only", action="store_true", help="run nothing, print the table")
    options = parser.parse_args()
    from launch.cli.loading import parse_duration

    try:
        options.budget_s = parse_duration(options.budget)
    except InputError as error:
        parser.error(f"--budget: {error}")
    there = {name: read() for name, read in sets_below(options.data).items()}
    sets = chosen(there, options.sets, parser)
    records = read_records(options.out)
    left = [] if options.read_only else missing(sets, there, options, records)
    num_failed = run_jobs(left, there, options, records)
    print(table([record for record in records if record["set"] in sets], options.budget_s))
    if num_failed:
        sys.exit(f"{num_failed} of {len(left)} failed. The same command runs them again.")


def run_jobs(
    jobs: Sequence[Job], there: Mapping[str, Labelled], options: argparse.Namespace, records: list[Record]
) -> int:
    """Run the jobs, each result a line of the file and of `records` at once. Returns how many failed."""
    load = os.getloadavg()[0]
    num_failed = 0
    if jobs and load > CPUS / 2:
        print(f"The machine is not idle (load {load:.1f}, {CPUS} cores): a budget buys less than it could.")
    for number, job in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {job.set}, {job.method}, seed {job.seed}: ", end="", flush=True)
        try:
            record = result(job, there[job.set], options)
        except KeyboardInterrupt:
            sys.exit(f"stopped. What ended is in {options.out}; the same command runs the rest.")
        except (RunError, BrokenProcessPool) as why:  # the other results are no worse for it
            num_failed += 1
            print(f"failed: {why}", flush=True)
            continue
        append(options.out, record)
        append(options.records, row_of(record, commit()))
        records.append(record)
        error = record["error"]
        doubt = record["standard_error"]
        print(f"error {error:.4f} ± {doubt:.4f} after {record['wall_s']:.1f} s", flush=True)
    return num_failed


def chosen(there: Mapping[str, Labelled], asked: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """The names that --sets asks for: of sets, or all, photos or masks."""
    masks = [name for name, data in there.items() if data.task == "segmentation"]
    photos = [name for name in there if name not in masks]
    known = {"all": list(there), "photos": photos, "masks": masks, **{name: [name] for name in there}}
    for name in asked:
        if not known.get(name):
            parser.error(f"--sets: no set '{name}' below --data. Known: {', '.join(known)}.")
    return list(dict.fromkeys(name for one in asked for name in known[one]))


def missing(
    sets: Sequence[str], there: Mapping[str, Labelled], options: argparse.Namespace, records: Sequence[Record]
) -> list[Job]:
    """Return the jobs that are asked for and not in the file, set by set."""
    seeds = range(options.seeds)
    asked = [Job(name, method, options.budget_s, seed) for name in sets for seed in seeds for method in options.methods]
    once = [replace(job, budget_s=None, seed=0) if job.method == "probe" else job for job in asked]
    known = {Job(*(record[field.name] for field in fields(Job))) for record in records}
    no_probe = {name for name in sets if there[name].task == "segmentation"}
    jobs = [job for job in dict.fromkeys(once) if not (job.method == "probe" and job.set in no_probe)]
    return [job for job in jobs if job not in known]


def result(job: Job, data: Labelled, options: argparse.Namespace) -> Record:
    """Run a method, and judge it. Raises RunError where a search cannot be run or exported."""
    load = os.getloadavg()[0]
    if job.method in ("hand", "probe"):
        found = in_own_process(by_hand, data, job, time.time())
    else:
        from benchmarks.minutes_search import Asked, searched

        asked = Asked(options.budget, options.runs_dir, options.search, options.assignments)
        found = searched(data, job.method, asked, job.seed)
    sizes = {"task": data.task, "num_train": len(data.train), "num_test": len(data.test)}
    where = {"version": version("visionsweep"), "time": round(time.time()), "cpus": CPUS, "load": load}
    return {**asdict(job), **sizes, **found, **where}


def by_hand(data: Labelled, job: Job, started_s: float) -> Record:
    """Run a hand's training in a process of its own, and judge it on the test rows."""
    from benchmarks.minutes_hands import probe
    from benchmarks.minutes_scores import judge_masks, judge_scores
    from benchmarks.minutes_tuning import tuned, tuned_masks

    if data.task == "segmentation":
        assert job.budget_s is not None
        masks, outcome = tuned_masks(data, started_s, job.budget_s, job.seed)
        judged = judge_masks(data, masks)
    else:
        outcome = probe(data, started_s) if job.budget_s is None else tuned(data, started_s, job.budget_s, job.seed)
        judged = judge_scores(data, outcome.scores)
    return {**asdict(judged), "wall_s": outcome.wall_s, "cpu_s": time.process_time(), "told": outcome.told}


def in_own_process(work: Callable[..., Record], *arguments: Any) -> Record:
    """Return the result of `work` from a fresh Python: its imports count, and its memory is freed."""
    at_interrupt = signal.SIGINT, signal.SIG_DFL  # Ctrl-C reaches both processes, and one message is enough
    with ProcessPoolExecutor(1, get_context("spawn"), signal.signal, at_interrupt) as pool:
        return pool.submit(work, *arguments).result()


def read_records(path: Path) -> list[Record]:
    """Read a file of results. A last line that a crash cut off is removed from the file."""
    if not path.is_file():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def append(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
