"""A search from its first proposal to its last result: Search -> Tuner -> run directory."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import ray
from ray import tune
from rich.console import Console

from analysis.rank import ranked
from launch import preflight
from launch.callback import RunCallback
from launch.cluster import local_ray, slots
from launch.interrupt import ctrl_c
from launch.progress import Progress
from launch.records import Records
from launch.searcher import StudySearcher
from launch.tuning import tune_until_done
from search_spaces.errors import ConfigError, RunError
from search_spaces.search import Search
from search_spaces.serial import search_from_json, search_to_json
from trainables.config_io import dump_config, parse_config
from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from trainables.trainable import TrialSettings, VisionTrainable

LIBRARIES = ("torch", "torchvision", "ray", "optuna", "timm", "albumentations", "torchmetrics", "visionsweep")


@dataclass(frozen=True)
class RunOptions:
    """How a search is run, as opposed to what it searches.

    num_trials, budget_s: what ends it, whichever comes first; both None takes the search's own number of trials.
    cpus_per_trial, gpus_per_trial, max_concurrent: None decides by the machine. cache_dir: None for no cache.
    keep_trials: how many of the best trials keep weights and predictions.
    """

    data: str
    num_trials: int | None = None
    budget_s: float | None = None
    max_concurrent: int | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | None = None
    seed: int = 0
    cache_dir: str | None = None
    on_bad_image: str = "error"
    keep_trials: int = 5


def start(search: Search, name: str, runs_dir: Path, options: RunOptions, console: Console, started: float) -> Records:
    """Run a new search; `started` is when the command was (the budget counts from there).

    Raises InputError for everything that can be known before any training.
    """
    run_dir = runs_dir / name
    preflight.check_runs_dir(run_dir)
    preflight.check_weights(search)
    if search.task != "classification":  # else the task is known with the data, and checked then
        preflight.check_names(search.for_task(search.task))
    dataset = _load(search, options)
    search = search.for_task(dataset.task)
    preflight.check_names(search)
    preflight.check_data(search, dataset)
    if options.num_trials is None and options.budget_s is None:
        options = replace(options, num_trials=search.num_trials or 50)
    records = Records.create(
        run_dir,
        {
            "name": name,
            "search": search_to_json(search),
            "data": dataset.describe(),
            "options": asdict(options),
            "versions": {"python": platform.python_version(), **{library: version(library) for library in LIBRARIES}},
            "machine": {"node": platform.node(), "cpus": os.cpu_count(), "system": platform.platform()},
            "command": sys.argv[1:],
            "started": started,
        },
    )
    for note in dataset.notes:
        console.print(note, style="yellow", soft_wrap=True)
    _execute(records, search, dataset, options, console, started)
    return records


def resume(run_dir: Path, more_trials: int, budget_s: float | None, console: Console, started: float) -> Records:
    """Go on with a run: interrupted trials first, from their last epoch, then new proposals.

    budget_s: wall-clock for this sitting; None goes on without one.
    Raises RunError where the data is no longer the run's data.
    """
    records, search_json = Records.open(run_dir)
    search = search_from_json(search_json["search"])
    options = RunOptions(**search_json["options"])
    num_trials = options.num_trials
    if num_trials is not None:
        num_trials += more_trials
    elif budget_s is None:
        num_trials = len(records.trials) + more_trials
    options = replace(options, num_trials=num_trials, budget_s=budget_s)
    dataset = _load(search, options)
    was = search_json["data"]["fingerprint"]
    if dataset.fingerprint != was:
        raise RunError(
            f"the data at {options.data} is not the run's data (fingerprint {dataset.fingerprint}, was {was}). "
            "Restore it, or start a new run."
        )
    if more_trials:
        records.write_search({**search_json, "options": {**search_json["options"], "num_trials": num_trials}})
    (run_dir / "stop").unlink(missing_ok=True)
    _execute(records, search, dataset, options, console, started)
    return records


def _load(search: Search, options: RunOptions) -> Dataset:
    task = None if search.task == "classification" else search.task
    dataset, _ = load_dataset(
        options.data,
        task=task,
        seed=options.seed,
        on_bad_image=options.on_bad_image,
        short_side_px=preflight.short_side_px(search),
        cache_dir=None if options.cache_dir is None else Path(options.cache_dir),
    )
    return dataset


def _execute(
    records: Records, search: Search, dataset: Dataset, options: RunOptions, console: Console, started: float
) -> None:
    # Ending Ray and printing the ranking take a few seconds, which belong to the budget too.
    deadline = None if options.budget_s is None else started + options.budget_s - min(4.0, options.budget_s / 10)
    with local_ray():
        have_gpus = ray.cluster_resources().get("GPU", 0.0)
        gpus = options.gpus_per_trial if options.gpus_per_trial is not None else float(have_gpus > 0)
        cpus = options.cpus_per_trial or _share_of_cpus(have_gpus, gpus)
        concurrent = min(slots(cpus, gpus), options.max_concurrent or sys.maxsize)
        settings = TrialSettings(
            run_dir=records.run_dir.resolve(),
            metric=search.metric or "",
            mode=search.mode or "max",
            short_side_px=preflight.short_side_px(search),
            cache_dir=None if options.cache_dir is None else Path(options.cache_dir).resolve(),
            cpus=max(1, int(cpus)),
            # On a CPU loading and training share the trial's cores; beside a GPU the cores have nothing else to do.
            num_workers=max(0, int(cpus) - 1) if gpus else 0,
            deadline=deadline,
            stop_file=records.run_dir.resolve() / "stop",
        )
        searcher = StudySearcher(search, records, options.seed, options.num_trials, deadline)
        progress = Progress(records, search, console, options.num_trials, deadline)
        callback = RunCallback(records, search, progress, options.keep_trials)
        trainable = tune.with_resources(
            tune.with_parameters(VisionTrainable, dataset=dataset, settings=settings), {"cpu": cpus, "gpu": gpus}
        )
        with progress, ctrl_c(searcher, settings.stop_file, progress):
            try:
                tune_until_done(trainable, searcher, search, callback, concurrent)
            finally:
                _close(records)
    settings.stop_file.unlink(missing_ok=True)
    write_best(records, search)


def write_best(records: Records, search: Search) -> None:
    """best.yaml: the best complete trial's configuration, which `visionsweep train` accepts."""
    best = ranked(records.trials.values(), search.metric or "", search.mode or "max")[:1]
    for trial in best:
        text = dump_config(parse_config(trial.config, f"trial {trial.trial_id}"))
        (records.run_dir / "best.yaml").write_text(f"# trial {trial.trial_id} of run {records.run_dir.name}\n{text}")


def _share_of_cpus(have_gpus: float, gpus_per_trial: float) -> float:
    if not gpus_per_trial:
        return 1.0
    cpus = ray.cluster_resources().get("CPU", 1.0)
    return float(max(1, int(cpus * gpus_per_trial / max(have_gpus, gpus_per_trial))))


def _close(records: Records) -> None:
    """Trials that were cut off (a second Ctrl-C, a crash of Ray) are interrupted, not lost."""
    for trial in list(records.trials.values()):
        if trial.status == "running":
            records.ended(trial.trial_id, "interrupted", "the search was stopped")


def default_name(search_name: str) -> str:
    """The search and the time: `classification-cpu-20260131-101500`."""
    return f"{Path(search_name).stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def check_name(name: str) -> str:
    """A run name is one folder name."""
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise ConfigError(
            f"a run name is one folder name without slashes, got '{name}'. Use --runs-dir for the folder."
        )
    return name
