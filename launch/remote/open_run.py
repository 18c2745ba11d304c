"""Read-only access to runs, in a folder or on S3."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from analysis.models.run_source import with_cache_dir
from launch.remote.location import home, location_of, require_run
from launch.remote.lock import LOCK_FILE, at_work
from visionsweep.core.errors import InputError, RunError
from visionsweep.core.s3 import Remote
from visionsweep.run_dir.files import EPOCHS_FILE, SEARCH_FILE, TRIAL_ROOMS, TRIALS_FILE
from visionsweep.run_dir.in_use import in_use
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import cache_dir_of


@contextmanager
def open_run(run: str, *, weights_of: str | None = "") -> Iterator[Run]:
    """Open a run to look at. From S3 its records are fetched, and the weights and predictions of one trial.

    `weights_of` is that trial's id, None means the best one, '' means none. Raises RunError or StorageError where that
    fails.
    """
    location = location_of(run, None)
    if location.remote is None:
        yield load_run(location.folder)
        return
    require_run(run)
    home(None).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home(None), prefix="view-") as scratch:
        folder = Path(scratch) / location.remote.name
        folder.mkdir()
        for name, content in read_records(location.remote).items():
            (folder / name).write_bytes(content)
        try:
            loaded = load_run(folder)
            if weights_of != "":
                from analysis.models.export import find_trial  # imports torch

                _bring_weights(location.remote, folder, find_trial(loaded, weights_of).trial_id)
            cache_dir = None if cache_dir_of(loaded.search) is None else str(home(None).parent)  # that of this machine
            yield replace(loaded, search=with_cache_dir(loaded.search, cache_dir))
        except InputError as error:
            raise type(error)(str(error).replace(str(folder), location.remote.uri)) from None


@contextmanager
def open_records(run: str) -> Iterator[tuple[Path, bool]]:
    """Open the records of a run: yield a folder with them, and whether a process works on the run.

    Raises RunError or StorageError if there is no such run.
    """
    location = location_of(run, None)
    if location.remote is None:
        yield location.folder, in_use(location.folder)
        return
    works = at_work(location.remote)  # asked first, so that what it sends meanwhile is in the records
    with tempfile.TemporaryDirectory(prefix="visionsweep-view-") as scratch:
        for name, content in read_records(location.remote).items():
            Path(scratch, name).write_bytes(content)
        yield Path(scratch), works


def bring_run(run: Remote, folder: Path) -> None:
    """Download all files of a run into a new folder. Raises RunError or StorageError."""
    require_run(run.uri)
    for name in run.listing():
        if name != LOCK_FILE:
            run.download(name, folder)


def _bring_weights(run: Remote, folder: Path, trial_id: str) -> None:
    stored = [name for room in TRIAL_ROOMS for name in run.listing(f"{room}/")]
    having = {name.split("/")[1] for name in stored if name.endswith(".safetensors")}
    if trial_id not in having:
        listed = ", ".join(sorted(having)) or "none yet"
        raise RunError(f"{run}: has no weights of trial {trial_id}. Trials with weights: {listed}.")
    for name in stored:
        if name.split("/")[1] == trial_id and name.endswith((".safetensors", ".npz")):
            run.download(name, folder)


def read_records(run: Remote) -> dict[str, bytes]:
    """Return search.json, trials.jsonl and epochs.jsonl of a run.

    They are read in this order, so that each trial that has ended has its epochs too. Raises RunError if there is no
    such run.
    """
    found = {name: run.read(name) for name in (SEARCH_FILE, TRIALS_FILE, EPOCHS_FILE)}
    if found[SEARCH_FILE] is None:
        raise RunError(f"{run.uri}: is not a run (it has no search.json). `visionsweep run --runs-dir` makes one.")
    return {name: b"" if stored is None else stored.content for name, stored in found.items()}
