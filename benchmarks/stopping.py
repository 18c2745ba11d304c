"""What `--stop auto` costs and saves: searches on recorded learning curves, with the point at which it would end them.

    python -m benchmarks.stopping [--tasks own lcbench-126025 ...] [--seeds 10] [--workers 4] [--budget 40]
                                  [--images 500] [--jobs 2]

Every search goes to the end of its budget (`search.py` defines it), on the virtual clock. Beside it runs the rule of
`launch/search/ending.py`, which notes when it would have ended the search. Lost is how much better the best score at
the end is than the one at that point. Saved is the share of the budget that came after it. A search that the rule
would not have ended has lost and saved nothing.

The noise is that of as many validation images as the curves were recorded on, or `--images` where that is unknown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.blackboxes import DATA, OWN_TASKS, TASKS, scale
from benchmarks.curves import read_curves
from benchmarks.ours import Recorder, method_ours
from benchmarks.simulate import Clock, incumbent, simulate, value_at
from launch.search.ending import Ending, standard_error
from visionsweep.core.errors import InputError
from visionsweep.core.names import pick

CURVES = Path(__file__).with_name("curves")


class Run(NamedTuple):
    """A simulation. budget: in full trainings. images: that judge a training."""

    task: str
    seed: int
    workers: int
    budget: float
    images: int


class Result(NamedTuple):
    """How a search did.

    end, noise    the best score at its end, and its standard error
    lost          of it, by ending at the point of the rule
    saved         share of the budget after that point, None where there was none
    """

    task: str
    end: float
    noise: float
    lost: float
    saved: float | None


class Watched(Recorder):
    """Records that also show the rule every trial that has ended, as `RunCallback` does."""

    def __init__(self, recorder: Recorder, ending: Ending) -> None:
        super().__init__(recorder.records, recorder.folder)
        self.ending = ending

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        super().on_trial_complete(iteration, trials, trial, **info)
        self.ending.look_at(self.records.trials[trial.config["trial_id"]])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["own"], help="own: all of benchmarks/curves; or names")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--budget", type=float, default=40.0)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    tasks = [task for name in options.tasks for task in (OWN_TASKS if name == "own" else (name,))]
    if not DATA.is_dir() and not set(tasks) <= set(OWN_TASKS):
        parser.error(f"the learning curves are not at {DATA}. Put the folder hpo/ of the shared data there.")
    try:
        for task in tasks:
            if pick(TASKS, task, "task")().mode != "max":
                parser.error(f"task {task} has losses, and the rule is for scores. Take another one.")
    except InputError as error:
        parser.error(str(error))
    runs = [
        Run(task, seed, options.workers, options.budget, images_of(task, options.images))
        for task in tasks
        for seed in range(options.seeds)
    ]
    if options.jobs == 1:
        results = list(map(run_one, runs))
    else:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread each: there are `jobs` of them
        with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
            results = list(pool.imap_unordered(run_one, runs))
    print(table(results))


def images_of(task: str, otherwise: int) -> int:
    """Return how many images judged the recorded trainings of a task, `otherwise` where nobody says."""
    path = CURVES / f"{task.removeprefix('own-')}.json.gz"
    if task not in OWN_TASKS or not path.exists():
        return otherwise
    return int(read_curves(path)["made"]["data"]["counts"]["val"])


def run_one(run: Run) -> Result:
    """Simulate one search to the end of its budget."""
    black_box = TASKS[run.task]()
    clock = Clock()
    budget_s = run.budget * scale(run.task).mean_full_s / run.workers
    method = method_ours(black_box, run.seed, run.workers, budget_s, clock)
    at = list[float]()
    search = method.searcher.search
    ending = Ending(search, None, False, run.images, (), lambda found: at.append(clock.now_s), run.seed)
    method.searcher.ending = ending
    assert isinstance(method.callback, Recorder)
    watched = method.callback = Watched(method.callback, ending)
    simulation = simulate(method, black_box, workers=run.workers, budget_s=budget_s, clock=clock)
    watched.folder.cleanup()
    times, values = incumbent(simulation, black_box.mode)
    end = float(values[-1])
    lost = end - value_at(times, values, at[0]) if at else 0.0
    return Result(run.task, end, standard_error(end, run.images), lost, 1 - at[0] / budget_s if at else None)


def table(results: Sequence[Result]) -> str:
    """Return a line per task: how many searches would have ended, what was lost, and what was saved."""
    lines = [f"{'task':24} {'ended':>8} {'best':>7} {'noise':>7} {'lost':>7} {'at most':>8} {'saved':>6}"]
    for task in dict.fromkeys(result.task for result in results):
        of_task = [result for result in results if result.task == task]
        ended = [result for result in of_task if result.saved is not None]
        lost = [result.lost for result in of_task]
        saved = np.mean([result.saved or 0.0 for result in of_task])
        best = np.mean([result.end for result in of_task])
        noise = np.mean([result.noise for result in of_task])
        lines.append(
            f"{task:24} {len(ended):>3} of {len(of_task):<2} {best:>6.4f} {noise:>7.4f} {np.mean(lost):>7.4f} "
            f"{max(lost):>8.4f} {saved:>6.0%}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
