"""Commands that search: run, resume, check. Heavy libraries are imported inside them."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.cli.options import (
    Address,
    CacheDir,
    CpusPerTrial,
    DataOption,
    GpusPerTrial,
    Group,
    LabelSeparator,
    Layout,
    LearnFrom,
    Log,
    MaskValues,
    MaxConcurrent,
    NoCache,
    NoReport,
    OnBadImage,
    Pruner,
    RunArgument,
    RunData,
    RunsDir,
    Sampler,
    SetOption,
    Stop,
    Target,
    TaskOption,
    Test,
    WarmStart,
    absolute,
    amount,
    cache_folder,
    given,
    group_of,
    new_console,
)
from launch.cli.slow import said_if_slow, stage
from visionsweep.core.errors import InputError
from visionsweep.core.s3 import is_remote

if TYPE_CHECKING:
    from rich.console import Console

    from launch.search.records import Records

THROUGH_CLIENT = "ray://"  # a driver behind Ray's client would end with the connection, so it is sent as a job


def run(
    ctx: typer.Context,
    search: Annotated[str, typer.Argument(help="A shipped search (`visionsweep spaces`) or a Python file.")],
    data: DataOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; default: search and time.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many configurations to try.")] = None,
    budget: Annotated[str | None, typer.Option(help="Wall-clock for everything, such as 30m or 2h.")] = None,
    assignments: SetOption = None,
    max_concurrent: MaxConcurrent = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    address: Address = None,
    task: TaskOption = None,
    sampler: Sampler = None,
    pruner: Pruner = None,
    warm_start: WarmStart = None,
    learn_from: LearnFrom = None,
    target: Target = None,
    stop: Stop = None,
    log: Log = None,
    keep_trials: Annotated[int, typer.Option(min=1, help="Best trials that keep weights and predictions.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the proposals and the trainings.")] = 0,
    runs_dir: RunsDir = "runs",
    cache_dir: CacheDir = None,
    no_cache: NoCache = False,
    on_bad_image: OnBadImage = "error",
    layout: Layout = None,
    mask_values: MaskValues = None,
    label_separator: LabelSeparator = None,
    group: Group = None,
    test: Test = None,
    no_report: NoReport = False,
) -> None:
    """Search: try configurations on your data, end the bad ones early, rank the rest."""
    # Through Ray's client: send the search as a job, and follow it.
    if address is not None and address.startswith(THROUGH_CLIENT):
        from launch.cli.jobs import follow, tell
        from launch.jobs.submission import submit_search

        submitted = submit_search(search, _without_address(ctx), address)
        tell(submitted, address)
        raise typer.Exit(follow(submitted))
    started = time.time()
    began = time.monotonic()
    stage(f"{search} on {data or 'its own data'}: looking at both.")
    with said_if_slow("importing libraries"):
        from launch.cli.first_look import look_first
        from launch.cli.loading import check_name, data_of, default_name, load_search, parse_assignments, parse_duration

    named = {"task": task, "sampler": sampler, "pruner": pruner}
    chosen = {key: value for key, value in named.items() if value is not None}
    name = check_name(name or default_name(search))
    budget_s = None if budget is None else parse_duration(budget)
    found = load_search(search).with_set({**chosen, "seed": seed, **parse_assignments(assignments or [])})
    data = data_of(search, found, data)
    look_first(found, data)
    with said_if_slow("importing libraries"):
        from launch.cli.printing import print_outcome
        from launch.cli.signals import finishing
        from launch.search.learning import check_sources
        from launch.search.target import check_ends
        from launch.search.warm_start import warm_started
        from launch.tracking.loggers import check_loggers

    found = warm_started(found, warm_start or [])
    check_loggers(log or [])
    check_ends(found, target, stop)
    check_sources(found, learn_from or [])
    with said_if_slow("importing libraries"):
        from launch.machines.cluster import ray_at
        from launch.machines.ray_settings import preloading

    # Start Ray, and import the rest meanwhile.
    at_once = [most for most in (trials, max_concurrent) if most is not None]
    stage("Starting Ray and importing torch; then the data is read." if address is None else f"Joining {address}.")
    ahead = preloading(min(at_once, default=None), amount(cpus_per_trial), amount(gpus_per_trial))
    with ray_at(address, ahead):
        with said_if_slow("importing libraries"):
            from launch.search.prepare import RunOptions
            from launch.search.run import start  # imports torch

        # Search, and print the outcome even if a signal comes.
        options = RunOptions(
            data=absolute(data),
            num_trials=trials,
            budget_s=budget_s,
            max_concurrent=max_concurrent,
            cpus_per_trial=amount(cpus_per_trial),
            gpus_per_trial=amount(gpus_per_trial),
            seed=seed,
            cache_dir=cache_folder(cache_dir, no_cache),
            on_bad_image=on_bad_image,
            layout=layout,
            mask_values=mask_values,
            label_separator=label_separator,
            group=group_of(group, data),
            test=test,
            keep_trials=keep_trials,
            log=log or [],
            target=target,
            stop=stop,
            learn_from=[source if is_remote(source) else absolute(source) for source in learn_from or []],
        )
        console = new_console()
        records = start(found, name, runs_dir, options, console, started, began)
        with finishing():
            print_outcome(records.run_dir, console, records.place, partial(_page, records, no_report, console))


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
        from visionsweep.core.errors import ConfigError

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
    stage(f"Resuming {run_dir}: starting Ray and importing torch; then the data is read.")
    with said_if_slow("importing libraries"):
        from launch.cli.printing import print_outcome
        from launch.cli.signals import finishing
        from launch.machines.cluster import ray_at

    with ray_at(address):
        with said_if_slow("importing libraries"):
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


def check(
    ctx: typer.Context,
    search: Annotated[str, typer.Argument(help="A shipped search (`visionsweep spaces`) or a Python file.")],
    data: DataOption = None,
    budget: Annotated[str | None, typer.Option(help="Say what this budget buys, such as 30m or 2h.")] = None,
    assignments: SetOption = None,
    max_concurrent: MaxConcurrent = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    address: Address = None,
    task: TaskOption = None,
    runs_dir: RunsDir = "runs",
    cache_dir: CacheDir = None,
    no_cache: NoCache = False,
    on_bad_image: OnBadImage = "error",
    layout: Layout = None,
    mask_values: MaskValues = None,
    label_separator: LabelSeparator = None,
    group: Group = None,
    test: Test = None,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="List images that hardly differ.")] = False,
) -> None:
    """Say what would stand in the way of a search, on every machine, before anything is spent."""
    # Through Ray's client: send the check as a job, and follow it.
    if address is not None and address.startswith(THROUGH_CLIENT):
        from launch.cli.jobs import follow
        from launch.jobs.submission import submit_check

        raise typer.Exit(follow(submit_check(search, _without_address(ctx), address)))
    with said_if_slow("importing libraries"):
        from launch.cli.first_look import look_first
        from launch.cli.loading import data_of, load_search, parse_assignments, parse_duration

    # Check what needs no Ray, so that a mistake is answered at once.
    budget_s = None if budget is None else parse_duration(budget)
    found = load_search(search).with_set({**({"task": task} if task else {}), **parse_assignments(assignments or [])})
    data = data_of(search, found, data)
    look_first(found, data)
    with said_if_slow("importing libraries"):
        from launch.machines.cluster import ray_at

    with ray_at(address):
        with said_if_slow("importing libraries"):
            from launch.search.check import check_search
            from launch.search.prepare import RunOptions

        options = RunOptions(
            data=absolute(data),
            budget_s=budget_s,
            max_concurrent=max_concurrent,
            cpus_per_trial=amount(cpus_per_trial),
            gpus_per_trial=amount(gpus_per_trial),
            cache_dir=cache_folder(cache_dir, no_cache),
            on_bad_image=on_bad_image,
            layout=layout,
            mask_values=mask_values,
            label_separator=label_separator,
            group=group_of(group, data),
            test=test,
        )
        console = new_console()
        # Check, and print a line for each finding. One that is fatal is exit code 1.
        findings = check_search(found, options, runs_dir, console, list_duplicates=duplicates)
        for finding in findings:
            mark, style = ("ok", "green") if finding.good else ("NO", "red") if finding.fatal else ("..", "yellow")
            console.print(f"{mark}  {finding.text}", style=None if finding.good else style, soft_wrap=True)
            if finding.advice:
                console.print(f"    {finding.advice}", soft_wrap=True)
    raise typer.Exit(int(any(finding.fatal for finding in findings)))


def _page(records: Records, no_report: bool, console: Console) -> Path | None:
    """Write the page of a run that has ended. A problem with it is printed, no more: the run is whole."""
    if no_report or records.mirror is not None:
        return None
    from analysis.report import write_report

    try:
        with said_if_slow("writing the report"):
            return write_report([records.run_dir], with_model=False)
    except (InputError, OSError, MemoryError) as error:
        console.print(f"The report could not be written: {error}", style="yellow", soft_wrap=True)
        return None


def _without_address(ctx: typer.Context) -> dict[str, object]:
    return {name: value for name, value in given(ctx).items() if name != "--address"}
