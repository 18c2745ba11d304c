"""What a shipped search reaches on folders of photos within a budget, through the command line.

    python -m benchmarks.photos FOLDER [FOLDER ...] [--search classification-cpu] [--budget 20m] [--set key=value ...]

Prints one row per folder: the best score, when it was reached, how the trials ended, and how well the budget was kept.
The runs stay in --runs-dir, for `visionsweep rank`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from launch.cli.loading import parse_duration
from visionsweep.core.text import duration, in_words
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.rank import ranked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--search", default="classification-cpu")
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    for folder in arguments.folders:
        name = f"photos-{folder.name}-{time.strftime('%H%M%S')}"
        command = [str(Path(sys.executable).with_name("visionsweep")), "run", arguments.search, "--data", str(folder)]
        command += ["--budget", arguments.budget, "--name", name, "--runs-dir", str(arguments.runs_dir)]
        command += [part for assignment in arguments.assignments for part in ("--set", assignment)]
        started = time.time()
        subprocess.run(command, check=True)
        print(row(arguments.runs_dir / name, started, time.time() - started, arguments.budget), flush=True)


def row(run_dir: Path, started: float, wall_s: float, budget: str) -> str:
    run = load_run(run_dir)
    best = ranked(run.trials, run.objectives)[0]
    scored = best.best(run.metric, run.mode)
    assert scored is not None, f"{run_dir}: no trial finished an epoch"
    value, epoch = scored
    reached_s = next(line["time"] for line in best.epochs if line["epoch"] == epoch) - started
    ends = ", ".join(f"{count} {status}" for status, count in Counter(trial.status for trial in run.trials).items())
    kept = wall_s / parse_duration(budget)
    return (
        f"{run.search['data']['spec']}: {run.search['search']['task']}, best {run.metric} {value:.4f} "
        f"after {duration(reached_s)} ({in_words(best.config)}); {ends}; "
        f"wall-clock {duration(wall_s)}, {kept:.1%} of the budget"
    )


if __name__ == "__main__":
    main()
