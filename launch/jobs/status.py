"""Progress of a run, from its files alone. The search may run here, on a cluster, or no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from launch.cli.door import nobody_reads
from launch.jobs import jobs
from launch.remote.open_run import open_records
from launch.search.budget import ENDED
from launch.search.progress import Progress
from search_spaces.finite import limited
from search_spaces.serial import search_from_json
from visionsweep.core.errors import InputError
from visionsweep.core.text import duration
from visionsweep.core.words import counted
from visionsweep.run_dir.sessions import session_starts, spent_s
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.trials import Trial, Trials, read_search, read_trials

WINDOW_S = 1800.0  # the pace is that of the last half hour
LAST_LINES = 6  # of a job's log
LOOK_EVERY_S = 2.0

View = tuple[RenderableType, bool]  # what to show, and whether more is to come


@dataclass
class _Read:
    trials: Trials


def watch(look: Callable[[], View], console: Console) -> None:
    """Show a view until no more is to come: in place on a terminal, else as lines."""
    view, is_running = look()
    if not console.is_terminal:
        console.print(view)
    with Live(view, console=console, auto_refresh=False, transient=True) as live:
        while is_running and not nobody_reads():
            time.sleep(LOOK_EVERY_S)
            view, is_running = look()
            live.update(view, refresh=True)
    console.print(view)


def run_view(run: str, console: Console) -> View:
    """Return the table that the search itself shows while it runs, of a folder or an address on S3.

    Raises RunError if it is no run directory. Raises StorageError if S3 cannot be read.
    """
    with open_records(run) as (folder, is_running):
        return _records_view(run, folder, is_running, console)


def _records_view(run_dir: str, folder: Path, is_running: bool, console: Console) -> View:
    search_json = read_search(folder)
    run = _Read(read_trials(folder))
    search = search_from_json(value_at(search_json, "search"))
    num_trials = limited(search, search_json.get("options", {}).get("num_trials"))
    progress = Progress(run, search, console, num_trials, None)
    now = time.time()
    ends = {trial.trial_id: trial.ended_s for trial in run.trials.values() if trial.ended_s is not None}
    times = [row["time"] for trial in run.trials.values() for row in trial.epochs if "time" in row]
    if is_running:
        pace = _pace(search_json, run.trials.values(), ends, times, now)
        notice = f"{run_dir}: runs."
    else:
        pace = f"last epoch {time.strftime('%Y-%m-%d %H:%M', time.localtime(max(times)))}" if times else "no epoch"
        notice = f"{run_dir}: {_ended(run_dir, list(run.trials.values()), search_json.get(ENDED))}"
    return progress.render(pace, notice), is_running


def job_view(client: Any, url: str, job_id: str, console: Console) -> View:
    """Return a job's state and the view of its run.

    If the run's folder cannot be read here, the last lines of the job's log stand there instead.
    """
    with jobs.asking(url):
        job = client.get_job_info(job_id)
    state = jobs.state(job)
    run_dir = (job.metadata or {}).get(jobs.RUN_DIR, "")
    spent = ((job.end_time or time.time() * 1000) - (job.start_time or job.end_time or 0)) / 1000
    head = Text(f"job {job_id}: {state.lower()}, {duration(spent)}; run directory there: {run_dir}", style="bold")
    try:
        below, _ = run_view(run_dir, console)
    except InputError:  # its folder cannot be read here, or is not there yet
        with jobs.asking(url):
            lines = (client.get_job_logs(job_id) or job.message or "").splitlines()
        below = Text("\n".join(lines[-LAST_LINES:]))
    return Group(head, below), state not in jobs.ENDED


def _pace(
    search_json: dict[str, Any], trials: Iterable[Trial], ends: dict[str, float], times: list[float], now: float
) -> str:
    starts = session_starts(search_json)
    begun = starts[-1]
    verb = "begun" if len(starts) == 1 else "resumed"
    since = max(begun, now - WINDOW_S)
    rate = sum(at > since for at in times) / max(1.0, now - since)
    parts = [f"{rate:.2f} epochs/s", f"{verb} {duration(now - begun)} ago"]
    options = search_json.get("options", {})
    left_s = (options.get("budget_s") or 0.0) - spent_s(search_json, [*ends.values(), *times, now])
    estimates = [left_s] if left_s > 0 else []
    done = {trial.trial_id for trial in trials if trial.status not in ("running", "interrupted")}
    lately = sum(ends.get(trial_id, 0.0) > since for trial_id in done)
    num_trials = limited(search_from_json(value_at(search_json, "search")), options.get("num_trials"))
    if lately >= 3 and num_trials:
        estimates.append((now - since) / lately * max(0, num_trials - len(done)))
    return " · ".join([*parts, *([f"about {duration(min(estimates))} left"] if estimates else [])])


def _ended(run_dir: str, trials: list[Trial], why: str | None) -> str:
    cut_off = sum(trial.status == "running" for trial in trials)
    interrupted = sum(trial.status == "interrupted" for trial in trials)
    if cut_off:
        running = counted(cut_off, "running trial")
        return f"was cut off with {running}. `visionsweep resume {run_dir}` resumes from the last epoch."
    if interrupted and why is None:
        return f"has stopped. `visionsweep resume {run_dir}` resumes {counted(interrupted, 'interrupted trial')}."
    return f"has ended{'' if why is None else f': {why}'}. `visionsweep rank {run_dir}` ranks its trials."
