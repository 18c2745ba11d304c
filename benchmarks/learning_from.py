"""What `--learn-from` is worth, on real learning curves under a virtual clock.

    python -m benchmarks.learning_from [--tasks lcbench-126026 ...] [--starts plain same other] [--seeds 5]
                                       [--workers 8] [--taught 15] [--budgets 5 15 30] [--jobs 1]

Three searches of each task, seed by seed:

    plain  learns from nothing
    same   from an earlier run of the same task with another seed, as values
    other  from an earlier run of another task, the next one of --tasks, by ranks

The earlier run is a whole search of --taught full trainings. Its run directory is read as the command line reads it.
`search.py` defines regret and budget. An earlier run's trials do not count as shown: the search has to train them anew.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.blackboxes import TASKS, scale
from benchmarks.ours import Recorder, described, method_ours, search_of
from benchmarks.regrets import regret_at
from benchmarks.simulate import Clock, incumbent, simulate
from benchmarks.simulate_ray import RayMethod
from benchmarks.starts import asked_starts, parser_of, simulated, with_others
from launch.search.learning import learned_from

STARTS = ("plain", "same", "other")
FOUR = (126026, 167104, 168330, 189354)
EARLIER = 1000  # added to the seed of a search, gives the seed of its earlier run


class Run(NamedTuple):
    """A simulation. taught, budget: in full trainings."""

    task: str
    other: str
    start: str
    seed: int
    workers: int
    taught: float
    budget: float


def main() -> None:
    parser = parser_of(__doc__, FOUR, STARTS, seeds=5, jobs=1)
    parser.add_argument("--taught", type=float, default=15.0)
    parser.add_argument("--budgets", nargs="+", type=float, default=[5.0, 15.0, 30.0])
    options = parser.parse_args()
    budgets = sorted(options.budgets)
    runs = [
        Run(task, other, start, seed, options.workers, options.taught, budgets[-1])
        for seed in range(options.seeds)  # the outer loop: what is cut off early has something of everything
        for task, other in with_others(parser, options.tasks)
        for start in asked_starts(options.starts, STARTS)
    ]
    results = simulated(
        run_one, runs, options.jobs, lambda one: ": " + ", ".join(f"{regret_at(one, budget):.3f}" for budget in budgets)
    )
    print(summary(results, budgets))


def run_one(run: Run) -> dict[str, Any]:
    """Simulate one run. `spent` (full trainings) and `regret` are the steps of the incumbent."""
    learned = [] if run.start == "plain" else lessons(run)
    method = searched(run.task, run.seed, run.workers, run.budget, tuple(learned))
    return {**run._asdict(), "learned": len(learned), **method.steps}


def lessons(run: Run) -> list[dict[str, Any]]:
    """Return what the search learns from its earlier run."""
    teacher = earlier(run.task if run.start == "same" else run.other, run.seed, run.workers, run.taught)
    recorder = teacher.method.callback
    assert isinstance(recorder, Recorder)
    search = search_of(TASKS[run.task]())
    return learned_from(search, described(search, run.task)["data"], [str(recorder.records.run_dir)])[0]


class Searched(NamedTuple):
    """A simulated search. Its run directory lives as long as the method."""

    method: RayMethod
    steps: dict[str, list[float]]


@functools.cache
def earlier(task: str, seed: int, workers: int, budget: float) -> Searched:
    """Return the earlier run of a task, simulated once in each process."""
    return searched(task, EARLIER + seed, workers, budget)


def searched(name: str, seed: int, workers: int, budget: float, learned: Sequence[Mapping[str, Any]] = ()) -> Searched:
    task = scale(name)
    black_box = TASKS[name]()
    clock = Clock()
    budget_s = budget * task.mean_full_s / workers
    method = method_ours(black_box, seed, workers, budget_s, clock, learned=learned, data=name)
    simulation = simulate(method, black_box, workers=workers, budget_s=budget_s, clock=clock)
    times, values = incumbent(simulation, black_box.mode)
    return Searched(
        method,
        {
            "spent": [0.0, *(times * workers / task.mean_full_s).tolist()],
            "regret": [1.0, *(task.regret(value) for value in values)],
        },
    )


def summary(results: Sequence[Mapping[str, Any]], budgets: Sequence[float]) -> str:
    """Return mean regrets, and each start's difference from the plain search, with a standard error over pairs.

    won: the share of pairs in which the regret is smaller than the plain search's, where a tie counts half.
    """
    lines = [f"{'mean regret':<12}" + "".join(f"{f'at {budget:g}':>34}" for budget in budgets)]
    plain = {(one["task"], one["seed"]): one for one in results if one["start"] == STARTS[0]}
    for start in (start for start in STARTS if any(one["start"] == start for one in results)):
        own = [one for one in results if one["start"] == start]
        line = f"{start:<12}"
        for budget in budgets:
            regrets = np.array([regret_at(one, budget) for one in own])
            cell = f"{regrets.mean():.4f}"
            if start != STARTS[0]:
                gaps = regrets - [regret_at(plain[one["task"], one["seed"]], budget) for one in own]
                error = np.std(gaps, ddof=1) / len(gaps) ** 0.5 if len(gaps) > 1 else np.nan
                won = np.mean(gaps < 0) + np.mean(gaps == 0) / 2
                cell += f" ({gaps.mean():+.4f} ± {error:.4f}, won {won:.0%})"
            line += f"{cell:>34}"
        lines.append(line)
    return "\n".join(["", *lines])


if __name__ == "__main__":
    main()
