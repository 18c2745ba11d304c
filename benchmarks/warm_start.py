"""What a warm start is worth, and what a bad one costs, on real learning curves under a virtual clock.

    python -m benchmarks.warm_start [--tasks lcbench-126026 ...] [--starts plain bad other] [--seeds 20] [--workers 8]
                                    [--budget 15] [--jobs 2]

Three searches of each task, seed by seed:

    plain  no warm start
    bad    first the worst three of a hundred random configurations of that task
    other  first the best three of another task

The cost of a start is how far its mean regret is behind the plain search's, in shares of the budget. It is given as the
average over the second half of the budget, and at its end, where curves are flat and noise moves the answer far.
`search.py` defines regret and budget. The share of the budget that the tried configurations took is printed beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optuna

from benchmarks.blackboxes import TASKS, scale
from benchmarks.ours import method_ours
from benchmarks.regrets import regret_at
from benchmarks.simulate import BlackBox, Clock, Floats, incumbent, simulate
from benchmarks.starts import asked_starts, parser_of, simulated, with_others
from search_spaces.grammar import draw

LONGER = 1.5  # the searches run for so many budgets, to see when the bad start has caught up
NUM_RANDOM = 100
NUM_TRIED = 3
STARTS = ("plain", "bad", "other")
EIGHT = (126026, 146212, 167104, 167152, 167184, 168330, 168868, 189354)


class Run(NamedTuple):
    """A simulation. budget: in full trainings."""

    task: str
    other: str
    start: str
    seed: int
    workers: int
    budget: float


def main() -> None:
    parser = parser_of(__doc__, EIGHT, STARTS, seeds=20, jobs=2)
    parser.add_argument("--budget", type=float, default=15.0)
    options = parser.parse_args()
    runs = [
        Run(task, other, start, seed, options.workers, options.budget)
        for task, other in with_others(parser, options.tasks)
        for seed in range(options.seeds)
        for start in asked_starts(options.starts, STARTS)
    ]
    results = simulated(run_one, runs, options.jobs, lambda one: "")
    print(summary(results, options.budget))


def run_one(run: Run) -> dict[str, Any]:
    """Simulate one run. `spent` (full trainings) and `regret` are the steps of the incumbent.

    `tried` (full trainings) is what the first NUM_TRIED trials took.
    """
    task = scale(run.task)
    black_box = TASKS[run.task]()
    clock = Clock()
    budget_s = LONGER * run.budget * task.mean_full_s / run.workers
    warm_start = {
        "plain": list[Mapping[str, Any]](),
        "bad": by_last_value(black_box, run.seed)[-NUM_TRIED:],
        "other": by_last_value(TASKS[run.other](), run.seed)[:NUM_TRIED],
    }[run.start]
    method = method_ours(black_box, run.seed, run.workers, budget_s, clock, warm_start)
    simulation = simulate(method, black_box, workers=run.workers, budget_s=budget_s, clock=clock)
    times, values = incumbent(simulation, black_box.mode)
    first = [simulation.trials[trial_id] for trial_id in sorted(simulation.trials)[:NUM_TRIED]]
    tried_s = sum(trial.epochs * black_box.seconds_per_epoch(trial.config) for trial in first)
    return {
        **run._asdict(),
        "spent": [0.0, *(times * run.workers / task.mean_full_s).tolist()],
        "regret": [1.0, *(task.regret(value) for value in values)],
        "tried": tried_s / task.mean_full_s,
    }


def by_last_value(black_box: BlackBox, seed: int) -> list[Mapping[str, Any]]:
    """Return a hundred random configurations, best first and diverged ones last."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=10_000 + seed))
    configs = [draw(black_box.space, study.ask()) for _ in range(NUM_RANDOM)]
    last = np.array([black_box.curve(config)[-1] for config in configs])
    sign = 1.0 if black_box.mode == "max" else -1.0
    worth = np.where(np.isfinite(last), sign * last, -np.inf)
    return [configs[index] for index in np.argsort(-worth, kind="stable")]


def summary(results: Sequence[Mapping[str, Any]], budget: float) -> str:
    """Return mean regrets over time, and how far each start is from the plain search at the end and behind it in time.

    The difference at the end has a standard error over pairs of searches.
    """
    times = np.linspace(0, LONGER * budget, 181)
    starts = [start for start in STARTS if any(one["start"] == start for one in results)]
    curves = {
        start: np.mean([[regret_at(one, t) for t in times] for one in results if one["start"] == start], axis=0)
        for start in starts
    }
    ends = {
        start: {(one["task"], one["seed"]): regret_at(one, budget) for one in results if one["start"] == start}
        for start in starts
    }
    at = [int(np.argmin(np.abs(times - share * budget))) for share in (0.25, 0.5, 1.0)]
    lines = [f"{'mean regret':<12}" + "".join(f"{f'at {times[index]:g}':>10}" for index in at)]
    for start, curve in curves.items():
        lines.append(f"{start:<12}" + "".join(f"{curve[index]:>10.4f}" for index in at))
        tried = [one["tried"] / budget for one in results if one["start"] == start]
        took = f"its first {NUM_TRIED} trials took {np.mean(tried):.1%} of the budget, {max(tried):.1%} at most"
        if start != "plain":
            gaps = [end - ends["plain"][pair] for pair, end in ends[start].items()]
            lines[-1] += f"  ({np.mean(gaps):+.4f} ± {np.std(gaps, ddof=1) / len(gaps) ** 0.5:.4f})"
            half = range(at[1], at[2] + 1)
            behind = [(_reached(times, curve, curves["plain"][index]) - times[index]) / budget for index in half]
            lines[-1] += f"  behind by {np.mean(behind):.0%} of the budget, by {behind[-1]:.0%} at its end"
        lines[-1] += f"; {took}"
    return "\n".join(["", *lines])


def _reached(times: Floats, curve: Floats, regret: float) -> float:
    """Return when a falling curve reached `regret`, or the last time if it never did."""
    reached = times[curve <= regret]
    return float(reached[0] if len(reached) else times[-1])


if __name__ == "__main__":
    main()
