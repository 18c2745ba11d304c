"""Commands for searches that run elsewhere: submit, status, logs, stop, fetch.

Heavy libraries are imported inside them.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.cli.options import (
    Cluster,
    CpusPerTrial,
    DataOption,
    GpusPerTrial,
    Group,
    LabelSeparator,
    Layout,
    LearnFrom,
    MaskValues,
    MaxConcurrent,
    NoCache,
    NoReport,
    OnBadImage,
    Pruner,
    Sampler,
    SetOption,
    Stop,
    Target,
    TaskOption,
    Test,
    WarmStart,
    given,
    new_console,
)

if TYPE_CHECKING:
    from launch.jobs.submission import Submitted

Job = Annotated[str, typer.Argument(metavar="JOB", help="What `submit` printed, or the name of the run.")]


def submit(
    ctx: typer.Context,
    search: Annotated[str, typer.Argument(help="A shipped search (`visionsweep spaces`) or a Python file.")],
    data: DataOption = None,
    cluster: Cluster = None,
    runs_dir: Annotated[str | None, typer.Option(help="Where runs are kept: a folder of the cluster.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; default: search and time.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many configurations to try.")] = None,
    budget: Annotated[str | None, typer.Option(help="Wall-clock for everything, such as 30m or 2h.")] = None,
    assignments: SetOption = None,
    max_concurrent: MaxConcurrent = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    task: TaskOption = None,
    sampler: Sampler = None,
    pruner: Pruner = None,
    warm_start: WarmStart = None,
    learn_from: LearnFrom = None,
    target: Target = None,
    stop: Stop = None,
    keep_trials: Annotated[int, typer.Option(min=1, help="Best trials that keep weights and predictions.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the proposals and the trainings.")] = 0,
    cache_dir: Annotated[str | None, typer.Option(help="Where each machine keeps decoded images.")] = None,
    no_cache: NoCache = False,
    on_bad_image: OnBadImage = "error",
    layout: Layout = None,
    mask_values: MaskValues = None,
    label_separator: LabelSeparator = None,
    group: Group = None,
    test: Test = None,
    no_report: NoReport = False,
) -> None:
    """Hand a search to a cluster, which continues it when this machine is switched off."""
    from launch.jobs.submission import submit_search

    options = given(ctx)
    del options["--cluster"]
    tell(submit_search(search, options, cluster, partial(new_console().print, soft_wrap=True)), cluster)


def status(
    run: Annotated[
        str | None,
        typer.Argument(metavar="JOB|RUN", help="A job, or a run directory; default: the newest in runs/."),
    ] = None,
    cluster: Cluster = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until it ends.")] = False,
) -> None:
    """How far a search is: its trials by status, the best of them, what runs."""
    if run is None:
        from launch.cli.first_look import newest_run

        run = str(newest_run())
    named = run
    from launch.jobs import jobs
    from launch.jobs.status import View, job_view, run_view
    from launch.jobs.status import watch as watch_view
    from visionsweep.run_dir.files import SEARCH_FILE

    console = new_console()
    if cluster is None and ("/" in run or any(os.path.isfile(Path(at) / run / SEARCH_FILE) for at in ("", "runs"))):

        def look() -> View:
            return run_view(named, console)
    else:
        url = jobs.cluster_url(cluster)
        client = jobs.connect(url)
        job_id = str(jobs.find(client, url, named).submission_id)

        def look() -> View:
            return job_view(client, url, job_id, console)

    watch_view(look, console) if watch else console.print(look()[0], soft_wrap=True)


def logs(
    job: Job,
    cluster: Cluster = None,
    go_on: Annotated[bool, typer.Option("--follow", help="Follow until the job ends.")] = False,
) -> None:
    """What a job has printed. With --follow the exit code is 1 where the job failed."""
    from launch.cli.terminal import say
    from launch.jobs import jobs

    url = jobs.cluster_url(cluster)
    client = jobs.connect(url)
    job_id = str(jobs.find(client, url, job).submission_id)
    if go_on:
        raise typer.Exit(_followed(client, url, job_id))
    with jobs.asking(url):
        log = client.get_job_logs(job_id)
    say(log, end="")


def stop(job: Job, cluster: Cluster = None) -> None:
    """End a job as Ctrl-C would: its trials are kept as interrupted, and the run can be resumed later."""
    from launch.cli.terminal import say
    from launch.jobs import jobs

    url = jobs.cluster_url(cluster)
    client = jobs.connect(url)
    found = jobs.find(client, url, job)
    if jobs.state(found) in jobs.ENDED:
        say(f"job {found.submission_id}: {jobs.state(found).lower()} already")
        return
    _stopped(client, url, found.submission_id, found.metadata.get(jobs.RUN_DIR, "RUN"))


def fetch(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory; of a cluster, or the job that wrote it.")],
    cluster: Cluster = None,
    to: Annotated[Path, typer.Option(help="The folder that it is brought to, under its own name.")] = Path("runs"),
) -> None:
    """Bring a run directory home."""
    from launch.cli.terminal import say
    from launch.jobs.fetch import fetch_run

    target = fetch_run(run, cluster, to)
    say(f"Fetched {target}. Next: visionsweep rank {target}")


def tell(submitted: Submitted, cluster: str | None) -> None:
    """Print what has been sent, and the commands that follow it."""
    from launch.cli.terminal import say

    where = "" if cluster is None else f" --cluster {cluster}"
    say(f"Job {submitted.job} has been sent: it does not need this machine any more.")
    say(f"Run directory on the cluster: {submitted.run_dir}")
    for command in ("status {} --watch", "logs {} --follow", "stop {}", "fetch {}"):
        say(f"  visionsweep {command.format(submitted.job)}{where}")


def follow(submitted: Submitted) -> int:
    """Print what a job prints, to its end, and return an exit code.

    Ctrl-C and the other signals of `signals.py` end the job. A lost connection does not.
    """
    try:
        return _followed(submitted.client, submitted.url, submitted.job)
    except KeyboardInterrupt:
        from launch.cli.signals import exit_code

        _stopped(submitted.client, submitted.url, submitted.job, submitted.run_dir)
        return exit_code()


def _followed(client: Any, url: str, job_id: str) -> int:
    from launch.cli.door import nobody_reads
    from launch.cli.terminal import say
    from launch.jobs import jobs

    with jobs.asking(url):
        for piece in jobs.follow(client, job_id):
            say(piece, end="", flush=True)
            if nobody_reads():  # `logs --follow | head`: the job continues
                return 0
        ended = jobs.state(client.get_job_info(job_id))
    say(f"job {job_id}: {ended.lower()}")
    return int(ended == "FAILED")


def _stopped(client: Any, url: str, job_id: str, run_dir: str) -> None:
    from launch.cli.terminal import say
    from launch.jobs import jobs

    say("Stopping: running trials end after their current batch.", flush=True)
    say(f"job {job_id}: {jobs.stop(client, url, job_id).lower()}")
    if run_dir:
        say(f"Resume it with: visionsweep resume {run_dir} --cluster {url}")
