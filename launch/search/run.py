"""A search from its first proposal to its last result: Search -> Tuner -> run directory."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console

from analysis.models.run_source import sealed, source_of
from launch.cli.printing import print_found
from launch.machines.capacity import plan, slots_of
from launch.machines.compatibility import Shared
from launch.machines.membership import Machines, at_once_on
from launch.machines.packing import Packer
from launch.machines.placement import resources_of
from launch.machines.ray_watchdog import watched_ray
from launch.pruners.ray_pruners import raw_epochs
from launch.remote.location import RunLocation, location_of, new_location
from launch.remote.mirror import Mirror
from launch.remote.session import check_new, mirrored
from launch.samplers.tried import nothing_left
from launch.search.budget import ENDED, began_at, budget_note, closing_s, ended_because, reached_because, resume_options
from launch.search.callback import RunCallback
from launch.search.comparing import Comparing
from launch.search.ending import Ending, resumed_ends
from launch.search.estimating import Estimating
from launch.search.foreknown import known_before
from launch.search.hang_detection import HangDetector
from launch.search.interrupt import ctrl_c, stop_everywhere
from launch.search.kept_room import end_running, kept_room
from launch.search.learning import LEARNED, learned_from
from launch.search.prepare import (
    RunOptions,
    as_settled,
    fewer,
    load_data,
    options_of,
    prepared,
    trial_settings,
)
from launch.search.progress import Progress
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from launch.search.settled import SettledSearch
from launch.search.target import AUTO, Target, check_ends
from launch.search.tuning import MAX_RETRIES, tune_until_done
from launch.search.versions import versions, versions_note
from launch.tracking.journal import Journal
from launch.tracking.loggers import Loggers, check_loggers
from launch.trial_notes import TrialNotes
from search_spaces.finite import limited
from search_spaces.search import Search
from search_spaces.serial import search_from_json, search_to_json
from trainables.data.cache import default_cache_dir
from trainables.data.same_data import require_same
from trainables.worker.door import TrialDoor
from visionsweep.run_dir.files import STOP_FILE, STUDY_FILE
from visionsweep.run_dir.recommended import forget
from visionsweep.run_dir.run import SETTLED
from visionsweep.run_dir.sessions import RESUMED, spent_s, times_written
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.trials import read_search


def start(
    search: Search,
    name: str,
    runs_dir: str,
    options: RunOptions,
    console: Console,
    started: float,
    began: float | None = None,
) -> Records:
    """Run a new search. The budget counts from the start of the command.

        runs_dir  a folder, or an address on S3
        started   start of the command by time.time(), for the records
        began     the same by time.monotonic(), for the budget; None: derived from `started`

    Raises InputError for everything that can be known before any training.
    """
    began = began_at(started) if began is None else began
    # Check everything that can be wrong before there is a run.
    location = new_location(runs_dir, name, options.cache)
    check_new(location)
    settled, dataset = prepared(search, options, began)
    options = as_settled(options, settled, dataset)
    check_ends(settled, options.target, options.stop)
    print_found(dataset, console)
    if options.num_trials is None and options.budget_s is None:
        options = replace(options, num_trials=settled.num_trials or 50)
    learned, lessons = learned_from(settled, dataset.describe(), options.learn_from)
    plan(*options.resources)  # raises for what the machine lacks, before there is a run
    shared = Shared(dataset, location, options.cache)
    shared.require()
    # Write the run directory, and search.
    about = {
        "name": name,
        "search": search_to_json(settled),
        "data": dataset.describe(),
        "options": asdict(options),
        "versions": versions(),
        "machine": {"node": platform.node(), "cpus": os.cpu_count(), "system": platform.platform()},
        "command": sys.argv[1:],
        "started": started,
        **({LEARNED: learned} if learned else {}),
    }
    with mirrored(location, console.print, new=True) as mirror:
        records = Records.create(location.folder, sealed(about), mirror)
        for note in (*fewer(settled, options.num_trials), *raw_epochs(settled), *lessons):
            console.print(note, style="yellow", soft_wrap=True)
        with records.locked():
            _execute(records, settled, shared, options, console, began)
    return records


def resume(
    run: str,
    more_trials: int,
    budget_s: float | None,
    cache_dir: Path | None,
    console: Console,
    started: float,
    data: str | None = None,
    began: float | None = None,
    target: str | None = None,
) -> Records:
    """Resume a run: interrupted trials first, from their last epoch, then new proposals.

        run          a folder, or an address on S3
        more_trials  further trials, 0 for none
        budget_s     of this session, None: what `launch.search.budget` makes of the run's
        cache_dir    of this session, None: the run's own, or this machine's for a run on S3
        data         where the user says that it is, from now on; None: where the run says
        target       that ends the search from now on, None: the run's own

    Raises RunError if the data is no longer the run's, or would be fetched from where somebody else says.
    """
    began = began_at(started) if began is None else began
    location = location_of(run, cache_dir)
    if location.remote is not None and cache_dir is None:
        cache_dir = default_cache_dir()
    with mirrored(location, console.print) as mirror:
        return _resume_at(location, mirror, more_trials, budget_s, cache_dir, console, started, data, began, target)


def _resume_at(
    location: RunLocation,
    mirror: Mirror | None,
    more_trials: int,
    budget_s: float | None,
    cache_dir: Path | None,
    console: Console,
    started: float,
    data: str | None,
    began: float,
    target: str | None,
) -> Records:
    read_search(location.folder)  # raises if it is no run
    records = Records(location.folder, mirror)
    with records.locked():
        search_json = read_search(location.folder)  # what the last holder of the lock wrote
        # Take the search and its options from the run, the data from where the user says.
        search = SettledSearch.of(search_from_json(value_at(search_json, "search")))
        spec, cache = source_of(search_json, data)
        options = options_of(search_json)
        options = replace(options, data=spec, cache_dir=None if cache is None else str(cache))
        if data is not None:  # from now on it is this user's run, with the data at this place
            where = {"data": spec, "cache_dir": options.cache_dir}
            search_json = sealed({**search_json, "options": {**search_json["options"], **where}})
        if options.cache_dir is not None and cache_dir is not None:
            options = replace(options, cache_dir=str(cache_dir.resolve()))
        # A run that has tried everything ends here.
        if (note := nothing_left(search, records.trials)) is not None:
            records.write_search({**search_json, ENDED: note})
            console.print(ended_because(note), style="yellow", soft_wrap=True)
            return records
        # So does one that has reached what it was to reach, unless more is asked for.
        more = bool(more_trials) or budget_s is not None
        options, over = resumed_ends(options, search, records.trials.values(), search_json, target, more)
        if over is not None:
            console.print(reached_because(over), style="yellow", soft_wrap=True)
            return records
        # Settle the budget of this session, and check that the data is the same.
        spent = spent_s(search_json, times_written(location.folder))
        session, options = resume_options(options, len(records.trials), spent, more_trials, budget_s)
        check_loggers(options.log)
        dataset = load_data(search, options)
        require_same(dataset, options.data, value_at(search_json, "data"))
        print_found(dataset, console)
        shared = Shared(dataset, location, options.cache)
        shared.require()
        # Write what changes in the run, and search.
        ends = {key: getattr(options, key) for key in ("num_trials", "budget_s", "target", "stop")}
        resumed = [*search_json.get(RESUMED, ()), {"time": started, "versions": versions()}]
        search_json.pop(ENDED, None)
        if note := versions_note(search_json):
            console.print(note, style="yellow", soft_wrap=True)
        records.write_search({**search_json, "options": {**search_json["options"], **ends}, RESUMED: resumed})
        if budget_s is None and not more_trials and (note := budget_note(session, options)):
            console.print(note, style="yellow", soft_wrap=True)
        (location.folder / STOP_FILE).unlink(missing_ok=True)
        _execute(records, search, shared, session, console, began)
    return records


def _execute(
    records: Records, search: SettledSearch, shared: Shared, options: RunOptions, console: Console, began: float
) -> None:
    # Divide the budget: trials until `deadline`, the comparison of the best until `ends_s`.
    ends_s = None if options.budget_s is None else began + options.budget_s - closing_s(options.budget_s)
    comparing = Comparing(records, search, ends_s)
    forget(records.run_dir)  # the weights of what was recommended may be deleted from now on
    deadline = None if ends_s is None else ends_s - comparing.reserve_s(options.budget_s)
    # Settle what every trial gets, and how it is trained.
    share, capacity = plan(*options.resources)
    mirror = records.mirror
    uri = None if mirror is None else mirror.uri
    settings = trial_settings(search, options, records.run_dir.resolve(), uri, share, deadline)
    # Build the searcher. It proposes a trial when there is room: in memory if trials are packed, else in their number.
    notes = TrialNotes()
    progress = Progress(records, search, console, limited(search, options.num_trials), deadline, began)
    machines = Machines(shared, partial(slots_of, share, capacity), progress.say)
    takes_turns = search.pruner == "pbt"
    ending = Ending(
        search,
        None if options.target is None else Target.of(options.target, search),
        options.stop == AUTO,
        len(shared.dataset.indices("val")),
        records.trials.values(),
        partial(_settled, records),
        options.seed,
    )
    searcher = StudySearcher(
        search,
        records,
        options.seed,
        options.num_trials,
        deadline,
        known=known_before(records, search, shared, share, packed=capacity is not None),
        notes=notes,
        packer=None if capacity is None else Packer(capacity, search.full_space, records, machines.now),
        at_once=None if capacity is not None or takes_turns else at_once_on(machines, options.max_concurrent),
        avoided=machines.avoided,
        folds=shared.dataset.num_folds,
        ending=ending,
        learned=read_search(records.run_dir).get(LEARNED, ()),
    )
    # Build the callbacks, and what writes copies of the records.
    hang_detector = HangDetector(settings.run_dir, MAX_RETRIES, notes, None if mirror is None else mirror.bring)
    estimating = None
    if options.budget_s is not None and deadline is not None and ends_s is not None and not records.trials:
        times = options.budget_s, began, deadline, ends_s
        estimating = Estimating(search, *times, share.concurrent, progress.tell, folds=shared.dataset.num_folds)
    callback = RunCallback(records, search, progress, options.keep_trials, notes, estimating, ending)
    past = records.trials.values()
    records.listen(Journal(records.run_dir / STUDY_FILE, records.run_dir.name, search, past))
    records.listen(Loggers(options.log, records.run_dir))
    # Run trials until the searcher is finished. However that ends, the records must say how each trial did.
    trainable = tune.with_resources(
        tune.with_parameters(TrialDoor, dataset=shared.dataset, settings=settings),
        partial(resources_of, cpus=share.cpus, gpus=share.gpus),
    )
    next_move = f"`visionsweep resume {records.place}` resumes the search."
    stop_file = settings.stop_file
    stop = stop_file.write_text if mirror is None else partial(stop_everywhere, stop_file)
    with (
        progress,
        ctrl_c(searcher, partial(stop, ""), progress),
        watched_ray(next_move, progress.live.stop),
        kept_room(records.run_dir) as free_room,
    ):
        try:
            folds = shared.dataset.num_folds
            tune_until_done(trainable, searcher, search, callback, hang_detector, share.concurrent, stop, folds)
        finally:
            machines.close()
            free_room()
            end_running(records)
            records.close_listeners()
            settings.stop_file.unlink(missing_ok=True)
    if ending.note is not None:
        records.write_search({**read_search(records.run_dir), ENDED: ending.note})
        console.print(reached_because(ending.note), style="yellow", soft_wrap=True)
    # Recommend a model, and say if the search has ended for good.
    if not searcher.stopped:
        comparing.recommend(shared.dataset, settings, console)
    if searcher.all_tried is not None:
        records.write_search({**read_search(records.run_dir), ENDED: searcher.all_tried})
        console.print(ended_because(searcher.all_tried), style="yellow", soft_wrap=True)


def _settled(records: Records, found: dict[str, Any]) -> None:
    """Keep when nothing more than noise was left to gain. The first time counts."""
    search_json = read_search(records.run_dir)
    if SETTLED not in search_json:
        records.write_search({**search_json, SETTLED: found})
