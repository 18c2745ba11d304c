"""What the benchmarks of a search's start share: tasks in pairs, and simulations in processes of their own."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from benchmarks.blackboxes import DATA, TASKS

Run = TypeVar("Run")
Result = dict[str, Any]


def parser_of(
    about: str | None, numbers: Sequence[int], starts: Sequence[str], seeds: int, jobs: int
) -> argparse.ArgumentParser:
    """Return a parser with the shared options. numbers: of LCBench's tasks, by default."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=[f"lcbench-{number}" for number in numbers])
    parser.add_argument("--starts", nargs="+", choices=starts, default=list(starts))
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=jobs)
    return parser


def with_others(parser: argparse.ArgumentParser, tasks: Sequence[str]) -> list[tuple[str, str]]:
    """Return each task with the next one, the last with the first. Ends the command if one is not known."""
    if not DATA.is_dir():
        parser.error(f"the learning curves are not at {DATA}. Put the folder hpo/ of the shared data there.")
    if len(tasks) < 2 or not set(tasks) <= set(TASKS):
        parser.error(f"--tasks takes two or more of {', '.join(list(TASKS)[:5])}, ..., got {tasks}.")
    return list(zip(tasks, [*tasks[1:], tasks[0]], strict=True))


def asked_starts(asked: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the starts that were asked for in the order of `known`, whose first is always among them."""
    return [start for start in known if start == known[0] or start in asked]


def simulated(
    run_one: Callable[[Run], Result], runs: Sequence[Run], jobs: int, shown: Callable[[Result], str]
) -> list[Result]:
    """Return the results of all runs, `jobs` at a time, and print a line when one is there."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread each: there are `jobs` of them
    results = []
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for number, result in enumerate(pool.imap_unordered(run_one, runs), start=1):
            results.append(result)
            about = f"{result['start']} on {result['task']}, seed {result['seed']}{shown(result)}"
            print(f"[{number}/{len(runs)}] {about}", flush=True)
    return results
