"""Commands for what a search found: ensemble, refit, labels, dashboard. Heavy libraries are imported inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.cli.options import RunArgument, RunData, new_console


def ensemble(
    run_dir: RunArgument,
    size: Annotated[int, typer.Option(min=1, help="Members at most, one taken twice counted twice.")] = 10,
    candidates: Annotated[int | None, typer.Option(min=1, help="Only of the best K trials.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to export it.")] = None,
    data: RunData = None,
) -> None:
    """Choose the models of a run that are best together, and say whether they beat the best one alone."""
    from launch.models.ensembles import ensemble_of
    from launch.remote.location import local_run

    ensemble_of(local_run(run_dir), size, candidates, out, new_console(), data)


def refit(
    run_dir: RunArgument,
    trial: Annotated[str | None, typer.Option(help="Which trial; default: the best.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many trainings, each with a seed of its own; default: 3.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(metavar="K", help="Instead: cross-validate it on K folds of train and val.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the trial's own.")] = None,
    on: Annotated[str, typer.Option(help="train, or train+val: then no validation score is left.")] = "train",
    data: RunData = None,
) -> None:
    """Train the best trial again with other seeds, or on folds: its mean and deviation. What was stopped is resumed."""
    from launch.models.refit import refit as refit_trial
    from launch.remote.location import local_run

    refit_trial(local_run(run_dir), trial, seeds, epochs, on, new_console(), data, folds)


def labels(
    run_dir: RunArgument,
    out: Annotated[Path | None, typer.Option(help="FILE.csv for all of them; default: the first are printed.")] = None,
    data: RunData = None,
) -> None:
    """List the labels of a run's data that may be wrong, the most doubtful first."""
    from launch.models.labels import print_labels
    from launch.remote.location import local_run
    from visionsweep.run_dir.load import load_run

    print_labels(load_run(local_run(run_dir)), out, new_console(), data)


def dashboard(
    run_dirs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run directories.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="This machine alone; others are refused.")] = "127.0.0.1",
) -> None:
    """Watch runs in the browser, live: optuna-dashboard on their journals."""
    from launch.remote.location import local_run
    from launch.tracking.dashboard import serve

    serve([local_run(run) for run in run_dirs], host, port, new_console())
