"""`visionsweep.resume`: the command `visionsweep resume` in a process of its own, with the same handle as a search."""

from __future__ import annotations

import os
from pathlib import Path

from launch.cli.first_look import look_at_run
from launch.cli.loading import parse_duration
from launch.python.epochs import OnEpoch
from launch.python.handle import RunningSearch
from launch.python.process import SearchProcess
from launch.python.words import check_address, checked_counts, in_units, options_as_words
from visionsweep.core.errors import ConfigError
from visionsweep.core.s3 import is_remote
from visionsweep.run_dir.load import Readable
from visionsweep.run_dir.run import Run


def resume(
    run: Path | str | Run | Readable,
    *,
    trials: int | None = None,
    budget: str | float | None = None,
    address: str | None = None,
    cache_dir: Path | str | None = None,
    data: Path | str | None = None,
    target: str | float | None = None,
    no_report: bool = False,
    wait: bool = True,
    quiet: bool = False,
    on_epoch: OnEpoch | None = None,
) -> RunningSearch:
    """Continue a run that was stopped, or search longer, and return a handle of it.

        run     a path or an address, a Run, or the handle of a search that has ended
        trials  so many configurations more, None means what is left
        budget  of this session, as '30m' or in seconds; None means what is left of the run's
        data    where the run's data is, needed where it is fetched and the run is not the user's own
        target  that ends the search from now on; None means the run's own

    The other arguments are those of `search`. `on_epoch` is called with the epochs of this session alone.

    Raises RunError if there is no such run, or another process works on it.
    """
    checked_counts({"trials": trials})
    check_address(address)
    place = os.fspath(getattr(run, "run_dir", run))  # type: ignore[arg-type]
    if on_epoch is not None and is_remote(place):
        raise ConfigError(f"on_epoch reads a run in a folder, and this one is {place}. Leave it out.")
    length = in_units(budget)
    if length is not None:
        parse_duration(length)
    look_at_run(place)
    place = place if is_remote(place) else str(Path(place).absolute())
    options = {
        "trials": None if trials is None else f"+{trials}",
        "budget": length,
        "address": address,
        "cache_dir": None if cache_dir is None else os.fspath(cache_dir),
        "data": None if data is None else os.fspath(data),
        "target": target,
        "no_report": no_report,
    }
    process = SearchProcess(["resume", place, *options_as_words(options)])
    handle = RunningSearch(process, place, quiet, on_epoch)
    return handle.wait() if wait else handle
