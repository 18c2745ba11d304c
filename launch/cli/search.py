"""Commands that search: run, resume, check. Heavy libraries are imported inside them."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.cli.option_groups import with_groups
from launch.cli.options import (
    Address,
    CacheDir,
    NoReport,
    RunArgument,
    RunData,
    Target,
    absolute,
    amount,
    given,
    new_console,
)
from launch.cli.search_options import SearchArgument, SearchOptions
from launch.cli.slow import said_if_slow, stage
from visionsweep.core.errors import ConfigError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.expect.chances import Chances
    from analysis.figures.verdict import Verdict
    from launch.search.records import Records
    from search_spaces.search import Search

THROUGH_CLIENT = "ray://"  # a driver behind Ray's client would end with the connection, so it is sent as a job


@with_groups()
def run(ctx: typer.Context, search: SearchArgument, options: SearchOptions) -> None:
    """Search: try configurations on your data, end the bad ones early, rank the rest."""
    # Through Ray's client: send the search as a job, and follow it.
    address = options.address
    if address is not None and address.startswith(THROUGH_CLIENT):
        from launch.cli.jobs import follow, tell
        from launch.jobs.submission import submit_search

        submitted = submit_search(search, _without_address(ctx), address)
        tell(submitted, address)
        raise typer.Exit(follow(submitted))
    started = time.time()
    began = time.monotonic()
    stage(f"{search} on {options.data or 'its own data'}: looking at both.")
    with said_if_slow("importing libraries"):
        from launch.cli.first_look import look_first
        from launch.cli.loading import check_name, data_of, default_name

    # Check what needs no Ray, so that a mistake is answered at once.
    name = check_name(options.name or default_name(search))
    options.budget_s  # noqa: B018  # raises for a text that is no duration
    found = options.loaded(search)
    data = data_of(search, found, options.data)
    look_first(found, data)
    with said_if_slow("importing libraries"):
        from launch.search.target import check_ends
        from launch.tracking.loggers import check_loggers

    check_loggers(options.log or [])
    check_ends(found, options.target, options.stop)
    with said_if_slow("importing libraries"):
        found = _with_earlier_runs(found, options)
        from launch.machines.cluster import ray_at
        from launch.machines.ray_settings import preloading

    # Start Ray, and import the rest meanwhile.
    at_once = [most for most in (options.trials, options.max_concurrent) if most is not None]
    starting = "Starting Ray, whose processes import torch; meanwhile the data is read."
    stage(starting if address is None else f"Joining {address}.")
    ahead = preloading(min(at_once, default=None), amount(options.cpus_per_trial), amount(options.gpus_per_trial))
    with ray_at(address, ahead):
        with said_if_slow("importing libraries"):
            from launch.cli.outcome import print_outcome
            from launch.cli.signals import finishing
            from launch.search.run import start

        # Search, and print the outcome even if a signal comes.
        console = new_console()
        records = start(found, name, options.runs_dir, options.run_options(data), console, started, began)
        with finishing():
            page = partial(_page, records, options.no_report, console)
            print_outcome(records.run_dir, console, records.place, page)


def resume(
    run_dir: RunArgument,
    trials: Annotated[str, typer.Option(help="+N: so many configurations more.")] = "+0",
    budget: Annotated[
        str | None,
        typer.Option(help="Wall-clock for this session, such as 30m; default: what is left of the run's."),
    ] = None,
    address: Address = None,
    cache_dir: CacheDir = None,
    cluster: Annotated[str | None, typer.Option(help="http://HEAD:8265: there, as `submit` does.")] = None,
    data: RunData = None,
    target: Target = None,
    no_report: NoReport = False,
) -> None:
    """Resume a run that was stopped: interrupted trials from their last epoch, then new ones."""
    started = time.time()
    began = time.monotonic()
    with said_if_slow("importing libraries"):
        from launch.cli.loading import parse_duration
        from launch.remote.location import require_run

    # Check what needs no Ray, so that a mistake is answered at once.
    if not trials.lstrip("+").isdigit():
        raise ConfigError(f"--trials takes a number of further trials, got '{trials}'. For example --trials +50.")
    budget_s = None if budget is None else parse_duration(budget)
    # With a cluster: send the resume as a job. Through Ray's client it is followed too.
    through_client = address is not None and address.startswith(THROUGH_CLIENT)
    if cluster is not None or through_client:
        from launch.cli.jobs import follow, tell
        from launch.jobs.submission import submit_resume

        submitted = submit_resume(str(run_dir), int(trials.lstrip("+")), budget, cluster or address, data, target)
        tell(submitted, cluster or address)
        raise typer.Exit(follow(submitted) if through_client else 0)
    require_run(run_dir)
    stage(f"Resuming {run_dir}: starting Ray; meanwhile the data is read.")
    with said_if_slow("importing libraries"):
        from launch.machines.cluster import ray_at

    with ray_at(address):
        with said_if_slow("importing libraries"):
            from launch.cli.outcome import print_outcome
            from launch.cli.signals import finishing
            from launch.search.run import resume as resume_run

        console = new_console()
        records = resume_run(
            run_dir,
            int(trials.lstrip("+")),
            budget_s,
            cache_dir,
            console,
            started,
            None if data is None else absolute(data),
            began,
            target,
        )
        with finishing():
            print_outcome(records.run_dir, console, records.place, partial(_page, records, no_report, console))


@with_groups(
    without=(
        "name",
        "trials",
        "sampler",
        "pruner",
        "warm_start",
        "learn_from",
        "target",
        "stop",
        "log",
        "keep_trials",
        "seed",
        "no_report",
    ),
    instead={"budget": Annotated[str | None, typer.Option(help="Say what this budget buys, such as 30m or 2h.")]},
)
def check(
    ctx: typer.Context,
    search: SearchArgument,
    options: SearchOptions,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="List images that hardly differ.")] = False,
    look: Annotated[
        bool, typer.Option("--look", help="Instead: a page of your photos as training will see them.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="The page of --look; default: look.html.")] = None,
) -> None:
    """Say what would stand in the way of a search, on every machine, before anything is spent."""
    # Through Ray's client: send the check as a job, and follow it. To look at photos needs no cluster.
    if options.address is not None and options.address.startswith(THROUGH_CLIENT) and not look:
        from launch.cli.jobs import follow
        from launch.jobs.submission import submit_check

        raise typer.Exit(follow(submit_check(search, _without_address(ctx), options.address)))
    with said_if_slow("importing libraries"):
        from launch.cli.first_look import look_first
        from launch.cli.loading import data_of

    # Check what needs no Ray, so that a mistake is answered at once.
    options.budget_s  # noqa: B018  # raises for a text that is no duration
    found = options.loaded(search)
    data = data_of(search, found, options.data)
    look_first(found, data)
    if out is not None and not look:
        raise ConfigError(f"check takes --out with --look alone, got --out {out}. Add --look.")

    console = new_console()
    if look:
        with said_if_slow("importing libraries"):
            from launch.search.look import look_at

        page = look_at(found, options.run_options(data), search, out or Path("look.html"), console)
        console.print(f"Your photos as training will see them: {page}", soft_wrap=True)
        return
    with said_if_slow("importing libraries"):
        from launch.machines.cluster import ray_at

    with ray_at(options.address):
        with said_if_slow("importing libraries"):
            from launch.search.check import check_search

        # Check, and print a line for each finding. One that is fatal is exit code 1.
        asked = options.run_options(data)
        findings = check_search(found, asked, options.runs_dir, console, list_duplicates=duplicates)
        for finding in findings:
            mark, style = ("ok", "green") if finding.good else ("NO", "red") if finding.fatal else ("..", "yellow")
            console.print(f"{mark}  {finding.text}", style=None if finding.good else style, soft_wrap=True)
            if finding.advice:
                console.print(f"    {finding.advice}", soft_wrap=True)
    raise typer.Exit(int(any(finding.fatal for finding in findings)))


def _with_earlier_runs(search: Search, options: SearchOptions) -> Search:
    """Return the search with what --warm-start names, and check what --learn-from names.

    Both import pandas, most of a second. Where neither is asked for, Ray begins to start that much sooner.
    """
    if options.warm_start:
        from launch.search.warm_start import warm_started

        search = warm_started(search, options.warm_start)
    if options.learn_from:
        from launch.search.learning import check_sources

        check_sources(search, options.learn_from)
    return search


def _page(records: Records, no_report: bool, console: Console, found: Verdict | None, chances: Chances) -> Path | None:
    """Write the page of a run that has ended. A problem with it is printed, no more: the run is whole."""
    if no_report or records.mirror is not None:
        return None
    from analysis.report import write_report

    try:
        with said_if_slow("writing the report"):
            return write_report([records.run_dir], with_model=False, known={records.run_dir: (found, chances)})
    except (InputError, OSError, MemoryError) as error:
        console.print(f"The report could not be written: {error}", style="yellow", soft_wrap=True)
        return None


def _without_address(ctx: typer.Context) -> dict[str, object]:
    return {name: value for name, value in given(ctx).items() if name != "--address"}
