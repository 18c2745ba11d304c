"""Learning curves of our own search, trained once and kept as a file: one more task for `search.py`.

    python -m benchmarks.curves DATA --out benchmarks/curves/NAME.json.gz [--search classification-cpu] [--trials 60]
                                [--epochs 12] [--images 400] [--set key=value ...] [--budget 40m] [--read-only]

Runs `visionsweep run` with random proposals and no pruning, on a GPU if there is one. The file holds of each trial the
parameters, and the metric and seconds of every epoch. It names no host and no absolute path. Only trials that trained
to the end, or diverged, are in it, among them the search's own first ones (its warm start).

The same command again resumes an interrupted run, and --read-only writes the file from what is there. The same run
directory gives the same bytes. Each part fixed by --set brings the recorded trials closer together.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import platform
import re
import shlex
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visionsweep.core.errors import InputError, RunError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial, read_search

RUN_AS = ("--set", "sampler=random", "--set", "pruner=none")
# An absolute path, alone or after `key=`, up to its last part.
FOLDERS = re.compile(r"(?<![^=\s'\"\[,])(?:~|/|[A-Za-z]:\\)(?:[^'\"=,]*[/\\])?")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", help="what --data of `visionsweep run` takes")
    parser.add_argument("--out", type=Path, required=True, help="such as benchmarks/curves/flowers5-cpu.json.gz")
    parser.add_argument("--search", default="classification-cpu")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, help="of a folder of classes: train on so many, judge on as many others")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--budget", help="wall-clock of this session, such as 40m")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--name", help="of the run; default: curves- and the file's name")
    parser.add_argument("--read-only", action="store_true", help="train nothing")
    options = parser.parse_args()
    stem = options.out.name.partition(".")[0]
    run_dir = options.runs_dir / (options.name or f"curves-{stem}")
    try:
        if not options.read_only:
            data = options.data
            if options.images is not None:
                data = str(linked(Path(options.data), options.images, run_dir.with_name(f"{run_dir.name}-data")))
            subprocess.run(command(options, data, run_dir), check=True)
        table = curves(load_run(run_dir), ["python", "-m", "benchmarks.curves", *sys.argv[1:]])
    except InputError as error:
        parser.error(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # it has printed the reason
    write_curves(options.out, table)
    print(in_words(options.out, table))


def linked(root: Path, images: int, folder: Path) -> Path:
    """Fill `folder` with links to `images` photos of `root` for training and as many for validation.

    Each class gives the same share, evenly spaced among its names.
    """
    from trainables.data.reading import IMAGE_SUFFIXES

    photos: dict[str, list[Path]] = {}
    for photo in sorted(root.glob("*/*")):
        if photo.suffix.lower() in IMAGE_SUFFIXES:
            photos.setdefault(photo.parent.name, []).append(photo)
    total = sum(map(len, photos.values()))
    if total < 2 * images:
        raise RunError(f"{root}: has {total} photos in its classes, and --images {images} takes twice as many.")
    links: dict[Path, Path] = {}
    for name, found in photos.items():
        num = 2 * round(images * len(found) / total)
        for number in range(num):
            photo = found[number * len(found) // num]
            links[folder / ("train", "val")[number % 2] / name / photo.name] = photo.resolve()
    for stale in set(folder.glob("*/*/*")) - set(links):  # of an earlier command with another --images
        stale.unlink()
    for link in set(links) - set(folder.glob("*/*/*")):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(links[link])
    return folder


def command(options: argparse.Namespace, data: str, run_dir: Path) -> list[str]:
    """Return the command that trains the trials: a new run, or the rest of an existing one.

    Raises RunError if that is another run.
    """
    program = str(Path(sys.executable).with_name("visionsweep"))
    budget = ["--budget", options.budget] if options.budget else []
    assignments = [part for assignment in options.assignments for part in ("--set", assignment)]
    new = ["run", options.search, "--data", data, *RUN_AS, "--set", f"epochs={options.epochs}", *assignments]
    new += ["--trials", str(options.trials), "--name", run_dir.name, "--runs-dir", str(run_dir.parent)]
    if not run_dir.exists():
        return [program, *new, *budget]
    search = read_search(run_dir)
    was = search["command"]
    num_was = search["options"]["num_trials"]
    if _but_for_trials(was) != _but_for_trials(new):
        raise RunError(f"{run_dir}: was made by `visionsweep {' '.join(was)}`. Give that again, or another --name.")
    return [program, "resume", str(run_dir), "--trials", f"+{max(0, options.trials - num_was)}", *budget]


def _but_for_trials(arguments: Sequence[str]) -> list[str]:
    text = "\0".join(arguments)
    return re.sub(r"\0--(trials|budget)\0[^\0]*", "", text).split("\0")


def curves(run: Run, written_by: Sequence[str]) -> dict[str, Any]:
    """The contents of a file: made, search, trials. Raises RunError where no trial came to its end."""
    search = run.search["search"]
    data = run.search["data"]
    statuses = Counter(trial.status for trial in run.trials)
    trials = [curve(trial, run.metric) for trial in run.trials if is_whole(trial, run.metric, search["epochs"])]
    if not any(trial["status"] == "complete" for trial in trials):
        raise RunError(f"{run.run_dir}: no trial has trained to the end ({in_short(statuses)}). Resume the run.")
    made = {
        "command": shlex.join(without_folders(written_by)),
        "data": {key: data[key] for key in ("spec", "task", "classes", "fingerprint", "counts", "split_origin")},
        "date": time.strftime("%Y-%m-%d", time.gmtime(run.search["started"])),
        "machine": machine(run.search["machine"]),
        "statuses": dict(statuses),
        "versions": run.search["versions"],
    }
    table: dict[str, Any] = without_folders({"made": made, "search": {**search, "data": None}, "trials": trials})
    return table


def is_whole(trial: Trial, metric: str, epochs: int) -> bool:
    """Whether the whole curve is known. One that was cut off, failed or ended itself early does not tell its rest."""
    return trial.status == "diverged" or (trial.status == "complete" and len(trial.values(metric)) == epochs)


def curve(trial: Trial, metric: str) -> dict[str, Any]:
    """Return a trial's values after each epoch, and the seconds of each (training and validation)."""
    values = trial.values(metric)
    seconds = {row["epoch"]: row["seconds"] for row in trial.epochs}
    return {
        "params": trial.params,
        "status": trial.status,
        "values": [round(values[epoch], 5) for epoch in sorted(values)],
        "seconds": [round(seconds[epoch], 3) for epoch in sorted(seconds)],
    }


def machine(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the kind of machine that the trials ran on, without its name.

    Processors are included only if the run is read on that machine.
    """
    kind = {"system": recorded["system"].partition("-")[0], "cpus": recorded["cpus"]}
    if recorded["node"] != platform.node():
        return kind
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    cpu = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {**kind, "cpu": cpu[1] if cpu else platform.machine(), "gpus": gpus}


def without_folders(node: Any) -> Any:
    """Cut every absolute path in a text down to its last part, as the file is to be shared."""
    match node:
        case str():
            return FOLDERS.sub("", node)
        case Mapping():
            return {key: without_folders(value) for key, value in node.items()}
        case list() | tuple():
            return [without_folders(value) for value in node]
        case _:
            return node


def write_curves(path: Path, table: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(table, sort_keys=True, separators=(",", ":"), allow_nan=False)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_curves(path: Path) -> dict[str, Any]:
    """Read a file of `write_curves`. Raises RunError, in one sentence, for any other file."""
    again = "Write it again with benchmarks/curves.py."
    try:
        table: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
        epochs = table["search"]["epochs"]
        trials = table["trials"]
        for number, trial in enumerate(trials):
            if not isinstance(trial["params"], dict) or not all(map(math.isfinite, trial["values"] + trial["seconds"])):
                raise RunError(f"{path}: trial {number} has parameters or numbers that are none. {again}")
            num, whole = len(trial["values"]), trial["status"] == "complete"
            if num > epochs or (whole and (num < epochs or len(trial["seconds"]) < epochs)):
                raise RunError(f"{path}: trial {number} is {trial['status']} with {num} of {epochs} epochs. {again}")
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: is no file of learning curves ({type(error).__name__}: {error}). {again}") from None
    if not any(trial["status"] == "complete" for trial in trials):
        raise RunError(f"{path}: holds no training that came to its end. {again}")
    return table


def in_short(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "no trials"


def in_words(path: Path, table: Mapping[str, Any]) -> str:
    trials = table["trials"]
    mode = max if table["search"]["mode"] == "max" else min
    best = mode(value for trial in trials for value in trial["values"])
    seconds = [second for trial in trials for second in trial["seconds"]]
    return (
        f"{path}: {len(trials)} curves of {table['search']['epochs']} epochs, {in_short(table['made']['statuses'])}; "
        f"best {table['search']['metric']} {best:.4f}; {sum(seconds) / 60:.0f} minutes of training; "
        f"{path.stat().st_size / 1000:.0f} kB"
    )


if __name__ == "__main__":
    main()
