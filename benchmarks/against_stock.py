"""Does the search find more on real images, too? Ours against OptunaSearch's TPE with Ray's ASHA, seed by seed.

    python benchmarks/against_stock.py FOLDER [--search classification-cpu] [--budget 20m] [--seeds 3] [--images 400]
                                       [--set key=value ...] [--runs-dir runs]

Both searches of a seed run at the same time, one trial at a time each, so that whatever else the machine does meets
both alike; on two cores each has one. Printed is the best score of a trial that trained to the end (what a user
exports), and the best that any trial showed. The runs stay in --runs-dir; one that is there already is only read.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from curves import linked

from analysis.load import Run, load_run
from analysis.rank import ranked

ARMS: dict[str, list[str]] = {"ours": [], "stock": ["--sampler", "stock", "--pruner", "stock"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--search", default="classification-cpu")
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, help="train on so many photos, judge on as many others")
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    options = parser.parse_args()
    if options.images is not None:
        links = options.runs_dir / f"{options.folder.name}-{options.images}-data"
        options.folder = linked(options.folder, options.images, links)
    found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        names = {arm: f"against-{options.folder.name}-{arm}-{seed}" for arm in ARMS}
        started = {
            arm: subprocess.Popen(command(options, arm, seed, name), stdout=subprocess.DEVNULL, env=environment())
            for arm, name in names.items()
            if not (options.runs_dir / name).exists()
        }
        for arm, process in started.items():
            if process.wait():
                sys.exit(f"the run of {arm} with seed {seed} ended with {process.returncode}; it has said why.")
        for arm, name in names.items():
            run = load_run(options.runs_dir / name)
            found[arm].append(scores(run))
            ends = {trial.status for trial in run.trials}
            counts = ", ".join(f"{sum(t.status == end for t in run.trials)} {end}" for end in sorted(ends))
            print(f"seed {seed}, {arm}: trained {found[arm][-1][0]:.4f}, shown {found[arm][-1][1]:.4f} ({counts})")
    for arm, pairs in found.items():
        columns = [list(column) for column in zip(*pairs, strict=True)]
        words = [
            f"{mean(column):.4f} ± {stdev(column) / len(column) ** 0.5:.4f}" for column in columns if len(column) > 1
        ]
        print(f"{arm}: " + ", ".join(f"{what} {word}" for what, word in zip(("trained", "shown"), words, strict=False)))


def command(options: argparse.Namespace, arm: str, seed: int, name: str) -> list[str]:
    program = str(Path(sys.executable).with_name("visionsweep"))
    asked = [program, "run", options.search, "--data", str(options.folder), "--budget", options.budget]
    asked += ["--name", name, "--runs-dir", str(options.runs_dir), "--seed", str(seed), "--max-concurrent", "1"]
    asked += [part for assignment in options.assignments for part in ("--set", assignment)]
    return asked + ARMS[arm]


def environment() -> dict[str, str]:
    """Ray lowers the priority of its workers; here nothing else is to come before them."""
    return {**os.environ, "RAY_worker_niceness": "0"}


def scores(run: Run) -> tuple[float, float]:
    """(best of a trial that trained to the end, best that any trial showed), 0 where there is none."""
    complete = [trial for trial in ranked(run.trials, run.objectives) if trial.status == "complete"]
    last = complete[0].best(run.metric, run.mode) if complete else None
    shown = [best[0] for trial in run.trials if (best := trial.best(run.metric, run.mode))]
    return last[0] if last else 0.0, max(shown, default=0.0)


if __name__ == "__main__":
    main()
