"""`visionsweep.search`: a search from Python, which is the command `visionsweep run` in a process of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.cli.first_look import look_first
from launch.cli.loading import check_name, data_of, default_name, load_search, parse_duration
from launch.python.choose import chosen_search
from launch.python.epochs import OnEpoch
from launch.python.handle import RunningSearch
from launch.python.process import SearchProcess
from launch.python.words import (
    assignments,
    check_address,
    checked_counts,
    checked_share,
    in_units,
    is_plain,
    options_as_words,
    paths_of,
    search_file,
)
from search_spaces.search import Search
from trainables.data.read_as import check_folds
from visionsweep.core.errors import ConfigError
from visionsweep.core.files import short
from visionsweep.core.printable import printable
from visionsweep.core.s3 import is_remote

_naming = threading.Lock()
_named = set[str]()  # runs of this process that may not have their folder yet


def search(
    data: Path | str | None = None,
    search: Search | Path | str | None = None,
    *,
    budget: str | float | None = None,
    trials: int | None = None,
    name: str | None = None,
    task: str | None = None,
    set: Mapping[str, Any] | None = None,
    sampler: str | None = None,
    pruner: str | None = None,
    warm_start: object = None,
    learn_from: object = None,
    target: str | float | None = None,
    stop: str | None = None,
    max_concurrent: int | None = None,
    cpus_per_trial: float | str | None = None,
    gpus_per_trial: float | str | None = None,
    address: str | None = None,
    log: str | Sequence[str] | None = None,
    keep_trials: int = 8,
    seed: int = 0,
    runs_dir: Path | str = "runs",
    cache_dir: Path | str | None = None,
    no_cache: bool = False,
    on_bad_image: str = "error",
    layout: str | None = None,
    mask_values: str | None = None,
    label_separator: str | None = None,
    group: str | None = None,
    test: str | None = None,
    folds: int | None = None,
    channels: int | str | None = None,
    no_report: bool = False,
    wait: bool = True,
    quiet: bool = False,
    on_epoch: OnEpoch | None = None,
) -> RunningSearch:
    """Search on your data, and return a handle of the run.

        data      a folder of classes or of masks, a table, s3://..., torchvision:NAME or digits; None: the search's own
        search    a Search, a shipped one's name or a Python file; None: the shipped one that fits the data
        budget    wall-clock for everything, as '30m', or in seconds
        trials    how many configurations to try
        set       parts to fix or change by their dotted path; a value may be a range, such as Float(...)
        warm_start  runs, handles or recipes whose best are tried first
        learn_from  runs or handles whose trials the sampler's model learns from
        target    that ends the search once it is reached, as 'val/accuracy=0.95', or a value of its own metric
        wait      until it has ended; False returns at once, and prints nothing before `wait()` is called
        quiet     print nothing, show no table
        on_epoch  called with each line of epochs.jsonl, in another thread; what it raises stops the search

    Every other argument is the option of `visionsweep run` with its name (docs/running.md).

    Raises InputError of the class that says what is wrong. With wait=False some of them come from `wait()`, which says
    the rest. A KeyboardInterrupt stops the search cleanly and is raised again.
    """
    # Check what is known at once, so that a mistake is answered before a process starts.
    checked_counts({"trials": trials, "max_concurrent": max_concurrent, "keep_trials": keep_trials, "seed": seed})
    check_folds(folds)
    checked_share("cpus_per_trial", cpus_per_trial)
    checked_share("gpus_per_trial", gpus_per_trial)
    check_address(address)
    if on_epoch is not None and is_remote(str(runs_dir)):
        raise ConfigError(f"on_epoch reads a run in a folder, and runs_dir is {runs_dir}. Leave one of them out.")
    length = in_units(budget)
    if length is not None:
        parse_duration(length)
    spec = None if data is None else os.fspath(data)
    # Settle the search: a Search, or the name of one.
    if search is None:
        if spec is None:
            raise ConfigError("search() takes data, a search, or both, and got neither. Name a folder of images.")
        search = chosen_search(spec, task, layout)
        if not quiet:
            print(printable(f"{search} fits this data and this machine; search=NAME takes another."), flush=True)
    found = _loaded(search)
    label = "search" if isinstance(search, Search) else os.fspath(search)
    changes = dict(set or {})
    ranges = {key: value for key, value in changes.items() if not is_plain(value)}
    if ranges:
        search = found = (found or load_search(str(search))).with_set(ranges)  # --set takes no range
    if found is not None:
        chosen = {"task": task, "sampler": sampler, "pruner": pruner}
        settled = {key: value for key, value in {**chosen, **changes}.items() if value is not None and is_plain(value)}
        look_first(found.with_set(settled), data_of(label, found, spec))
    word = SearchProcess.SEARCH if isinstance(search, Search) else os.fspath(search)
    # Start the command.
    folder = str(runs_dir) if is_remote(str(runs_dir)) else str(Path(runs_dir).absolute())
    name = _free_name(folder, label) if name is None else check_name(name)
    options = {
        "data": spec,
        "name": name,
        "budget": length,
        "trials": trials,
        "task": task,
        "sampler": sampler,
        "pruner": pruner,
        "warm_start": paths_of(warm_start),
        "learn_from": paths_of(learn_from),
        "target": target,
        "stop": stop,
        "max_concurrent": max_concurrent,
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        "address": address,
        "log": log,
        "keep_trials": keep_trials,
        "seed": seed,
        "runs_dir": folder,
        "cache_dir": None if cache_dir is None else os.fspath(cache_dir),
        "no_cache": no_cache,
        "on_bad_image": on_bad_image,
        "layout": layout,
        "mask_values": mask_values,
        "label_separator": label_separator,
        "group": group,
        "test": test,
        "folds": folds,
        "channels": channels,
        "no_report": no_report,
        "set": assignments({key: value for key, value in changes.items() if is_plain(value)}),
    }
    text = search_file(search) if isinstance(search, Search) else None
    process = SearchProcess(["run", word, *options_as_words(options)], text)
    handle = RunningSearch(process, f"{folder.rstrip('/')}/{name}", quiet, on_epoch)
    return handle.wait() if wait else handle


def _loaded(search: Search | Path | str) -> Search | None:
    """Return a search that is known without running a file of the user's, which the command alone does."""
    if isinstance(search, Search):
        return search
    if not isinstance(search, (str, os.PathLike)):
        raise ConfigError(
            f"a search is a Search, a name or a Python file, got {short(search)}. `visionsweep spaces` lists the names."
        )
    return None if os.fspath(search).endswith(".py") else load_search(os.fspath(search))


def _free_name(folder: str, label: str) -> str:
    """Return the default name of a run, with a number where this process has just given it away."""
    with _naming:
        name = first = default_name(label)
        number = 2
        while f"{folder}/{name}" in _named or (not is_remote(folder) and Path(folder, name).exists()):
            name = f"{first}-{number}"
            number += 1
        _named.add(f"{folder}/{name}")
        return name
