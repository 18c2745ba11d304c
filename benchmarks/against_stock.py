"""Does the search find more on real images, too? Ours against OptunaSearch's TPE with Ray's ASHA, seed by seed.

    python -m benchmarks.against_stock FOLDER [--search classification-cpu] [--budget 20m] [--seeds 3] [--images 400]
                                       [--set key=value ...] [--runs-dir runs]

Both searches of a seed run at the same time, with one trial at a time each. So other load on the machine affects both
alike. On two cores each has one.

Prints the best score of a trial that trained to the end (what a user exports), and the best that any trial showed. With
--images it also prints the accuracy of the exported winner. It is measured on all photos that neither its training nor
its choice has seen (those of a folder per class).

The runs stay in --runs-dir. A run that is there already is only read.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from benchmarks.curves import linked
from trainables.data.reading import IMAGE_SUFFIXES
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.run import Run

COLUMNS = ("trained", "shown", "unseen")
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
    # With --images, train on a part of the photos and keep the others for the exported winners.
    unseen: list[Path] = []
    if options.images is not None:
        links = options.runs_dir / f"{options.folder.name}-{options.images}-data"
        everything = photos_below(options.folder)
        options.folder = linked(options.folder, options.images, links)
        used = {link.resolve() for link in photos_below(links)}
        unseen = [photo for photo in everything if photo.resolve() not in used]
    # Both arms of a seed run at the same time. Runs that exist are only read.
    found: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
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
            found[arm].append([*scores(run), *([accuracy(run, unseen)] if unseen else [])])
            ends = {trial.status for trial in run.trials}
            counts = ", ".join(f"{sum(t.status == end for t in run.trials)} {end}" for end in sorted(ends))
            said = ", ".join(f"{what} {score:.4f}" for what, score in zip(COLUMNS, found[arm][-1], strict=False))
            print(f"seed {seed}, {arm}: {said} ({counts})", flush=True)
    # Means and standard errors over the seeds.
    for arm, rows in found.items():
        columns = [list(column) for column in zip(*rows, strict=True)]
        words = [
            f"{mean(column):.4f} ± {stdev(column) / len(column) ** 0.5:.4f}" for column in columns if len(column) > 1
        ]
        print(f"{arm}: " + ", ".join(f"{what} {word}" for what, word in zip(COLUMNS, words, strict=False)))


def command(options: argparse.Namespace, arm: str, seed: int, name: str) -> list[str]:
    program = str(Path(sys.executable).with_name("visionsweep"))
    asked = [program, "run", options.search, "--data", str(options.folder), "--budget", options.budget]
    asked += ["--name", name, "--runs-dir", str(options.runs_dir), "--seed", str(seed), "--max-concurrent", "1"]
    asked += [part for assignment in options.assignments for part in ("--set", assignment)]
    return asked + ARMS[arm]


def environment() -> dict[str, str]:
    """Return the environment of a search. Ray lowers the priority of its workers, which is undone here."""
    return {**os.environ, "RAY_worker_niceness": "0"}


def scores(run: Run) -> tuple[float, float]:
    """Return (best of the trials that trained to the end, best that any trial showed), 0 if there is none."""
    complete = [trial for trial in ranked(run.trials, run.objectives) if trial.status == "complete"]
    last = complete[0].best(run.metric, run.mode) if complete else None
    shown = [best[0] for trial in run.trials if (best := trial.best(run.metric, run.mode))]
    return last[0] if last else 0.0, max(shown, default=0.0)


def photos_below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]


def accuracy(run: Run, photos: list[Path]) -> float:
    """Return the share of the photos that the run's exported winner assigns to the class of their folder."""
    from analysis.models.export import export_trial
    from analysis.models.predict import predict_images

    out = run.run_dir.with_name(f"{run.run_dir.name}-export")
    if not out.exists():
        export_trial(run, out)
    rows = predict_images(out, photos)
    return mean(row.get("label") == photo.parent.name for photo, row in zip(photos, rows, strict=True))


if __name__ == "__main__":
    main()
