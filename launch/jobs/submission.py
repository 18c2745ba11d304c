"""A search for a cluster: checked here, then sent as the `run` that it is there.

A mistake that is found here costs a second.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.cli.loading import check_name, data_of, default_name
from launch.cli.options import amount, check_gpus_per_trial
from launch.cli.search_options import SearchOptions
from launch.jobs import jobs
from launch.search.target import check_ends
from launch.search.warm_start import warm_started
from launch.tracking.loggers import MODULES
from search_spaces.recipes import RECIPES
from search_spaces.search import Search
from visionsweep.core.errors import ConfigError, DataError
from visionsweep.core.names import pick
from visionsweep.core.s3 import is_remote

if TYPE_CHECKING:
    from trainables.data.read_as import ReadAs

# Data with the same name on every machine: built in, downloaded, or in a store that all of them reach.
BY_NAME = re.compile(r"digits(:.*)?$|torchvision:|[a-z][a-z0-9+.-]*://")


@dataclass(frozen=True)
class Submitted:
    """A job that was sent.

    job: its id. run_dir: on the cluster. client: what sent it, to the cluster at `url`.
    """

    job: str
    run_dir: str
    client: Any
    url: str


def submit_search(
    search: str, options: Mapping[str, object], cluster: str | None, say: Callable[[str], None] = lambda line: None
) -> Submitted:
    """Have a cluster run a search.

        search   a shipped search or a Python file
        options  those of `run` by their names there, None or [] if not given
        cluster  its address, None: from the environment, as `ray job` reads it
        say      gets what the data is, as far as this machine can see it, before anything is sent

    Raises InputError for everything that can be known before anything is sent.
    """
    url = jobs.cluster_url(cluster)
    given = _given(options)
    found = _checked(search, given)
    name = check_name(str(given.setdefault("--name", default_name(search))))
    _check_names(found, given)
    for line in _data_seen_here(data_of(search, found, _text(given, "--data")), found, given):
        say(line)
    run_dir = f"{str(given['--runs-dir']).rstrip('/')}/{name}"
    return _send("run", search, given, url, name, run_dir)


def submit_check(search: str, options: Mapping[str, object], cluster: str) -> Submitted:
    """Have a cluster say what would stand in the way of a search.

    options: those of `check`. Raises InputError.
    """
    url = jobs.cluster_url(cluster)
    given = _given(options)
    _checked(search, given)
    return _send("check", search, given, url, "check", "")


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if not (value is None or value is False or value == [])}


def _send(command: str, search: str, given: Mapping[str, object], url: str, name: str, run_dir: str) -> Submitted:
    files = carried(search) if search.endswith((".py", ".json")) else {}
    arguments = ["launch.cli", command, Path(search).name if files else search, *as_arguments(given), "--address=auto"]
    client = jobs.connect(url)
    metadata = {jobs.RUN_DIR: run_dir} if run_dir else {}
    return Submitted(jobs.send(client, url, name, arguments, files, metadata), run_dir, client, url)


def submit_resume(
    run: str,
    more_trials: int,
    budget: str | None,
    cluster: str | None,
    data: str | None = None,
    target: str | None = None,
) -> Submitted:
    """Have a cluster resume a run.

    run: its directory there or on S3, or the job (or its name) that wrote it.
    """
    url = jobs.cluster_url(cluster)
    client = jobs.connect(url)
    named = Path(run).is_absolute() or is_remote(run)
    run_dir = run.rstrip("/") if named else jobs.find(client, url, run).metadata[jobs.RUN_DIR]
    options = as_arguments({"--trials": f"+{more_trials}", "--budget": budget, "--data": data, "--target": target})
    command = ["launch.cli", "resume", run_dir, *options, "--address=auto"]
    job = jobs.send(client, url, Path(run_dir).name, command, {}, {jobs.RUN_DIR: run_dir})
    return Submitted(job, run_dir, client, url)


def as_arguments(options: Mapping[str, object]) -> list[str]:
    """Return options as a command line has them. Those without a value are left out."""
    arguments: list[str] = []
    for name, value in options.items():
        if value is True:
            arguments.append(name)
        elif isinstance(value, list):
            arguments += [f"{name}={one}" for one in value]
        elif value is not None and value is not False:
            arguments.append(f"{name}={value}")
    return arguments


def carried(search: str) -> dict[str, Path]:
    """Return a search file and the modules beside it that it imports, by their names on the cluster.

    The search has been loaded, so its imports are known.
    """
    folder = Path(search).resolve().parent
    files = {Path(search).name: Path(search).resolve()}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in jobs.ROOMS or not getattr(module, "__file__", None):
            continue
        file = Path(str(module.__file__)).resolve()
        place = name.replace(".", "/")
        if file in (folder / f"{place}.py", folder / place / "__init__.py"):
            files[str(file.relative_to(folder))] = file
    return files


def _checked(search: str, given: Mapping[str, object]) -> Search:
    """Return the search. Raises InputError for what would fail there too, and for paths that only this machine has."""
    asked = SearchOptions.of(given)
    found = asked.loaded(search)
    if "--gpus-per-trial" in given:
        check_gpus_per_trial(amount(str(given["--gpus-per-trial"])))
    asked.budget_s  # noqa: B018  # raises for a text that is no duration
    check_ends(found, asked.target, asked.stop)
    data = data_of(search, found, _text(given, "--data"))
    if not BY_NAME.match(data):
        _must_be_absolute("--data", data, "/shared/photos")
    _must_be_absolute("--runs-dir", str(given.get("--runs-dir", "runs")), "/shared/runs")
    if "--cache-dir" in given:
        _must_be_absolute("--cache-dir", str(given["--cache-dir"]), "/var/cache/visionsweep")
    group = str(given.get("--group", ""))
    if group.lower().endswith(".csv") and ("/" in group or Path(group).exists()):  # else it lies beside the data
        _must_be_absolute("--group", group, "/shared/photos/groups.csv, or groups.csv for the one beside the data")
    for logger in _several(given, "--log"):
        pick(MODULES, logger, "logger")  # whether it is installed there, the job says
    sources = _several(given, "--warm-start")
    found = warm_started(found, [source for source in sources if source in RECIPES])
    for source in sources:
        if source not in RECIPES:
            _must_be_absolute("--warm-start", source, "/shared/runs/earlier, or a recipe (`visionsweep recipes`)")
    for source in _several(given, "--learn-from"):
        _must_be_absolute("--learn-from", source, "/shared/runs/earlier")
    return found


def _check_names(search: Search, given: Mapping[str, object]) -> None:
    """Check the search for the tasks that its data may have. One that passes is enough.

    The data decides, for example, whether there are two classes or more.
    """
    from launch.search import preflight

    preflight.check_folds(search, SearchOptions.of(given).folds)
    _read_as(given)
    for task in search.tasks:
        try:
            return preflight.check_names(search.for_task(task))
        except ConfigError:
            if task == search.tasks[-1]:
                raise
    return None


def _data_seen_here(spec: str, search: Search, given: Mapping[str, object]) -> list[str]:
    """Return lines on what the data is, and what is assumed about it. If it is elsewhere, say who will look at it.

    Nothing is decoded. Data with a fault is reported and sent all the same: a path may mean another folder there.
    """
    from trainables.data.formats import scan_data
    from trainables.data.summary import name_of, scan_summary
    from trainables.data.there import BUILT_IN

    if spec not in BUILT_IN and not (spec.startswith("/") and Path(spec).exists()):
        return [f"{name_of(spec)}: not looked at on this machine. The job's log begins with what was found in it."]
    task = None if search.task == "classification" else search.task
    try:
        scan = scan_data(spec, task=task, read_as=_read_as(given), cache_dir=None)
    except DataError as error:
        return [f"As this machine sees it: {error}"]
    return [scan_summary(spec, scan), *(f"  {note}" for note in scan.notes)]


def _read_as(given: Mapping[str, object]) -> ReadAs:
    """Return how the data is read. Raises DataError for unknown values."""
    from trainables.data.read_as import ReadAs

    return ReadAs.of({name.removeprefix("--").replace("-", "_"): value for name, value in given.items()})


def _text(given: Mapping[str, object], name: str) -> str | None:
    return str(given[name]) if name in given else None


def _several(given: Mapping[str, object], name: str) -> list[str]:
    values = given.get(name, [])
    return [str(value) for value in values] if isinstance(values, list) else []


def _must_be_absolute(option: str, path: str, example: str) -> None:
    if not (path.startswith("/") or is_remote(path)):
        raise ConfigError(
            f"{option} of a search that runs on a cluster is a path there, in a folder that all its machines share: an "
            f"absolute one, or on S3, got '{path}'. For example {option} {example}."
        )
