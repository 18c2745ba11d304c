"""The commands of `visionsweep`, by name."""

from __future__ import annotations

import typer

from launch.cli_after import dashboard, ensemble, refit
from launch.cli_evaluate import evaluate
from launch.cli_jobs import fetch, logs, status, stop, submit
from launch.cli_models import export, predict, train
from launch.cli_report import report
from launch.cli_search import check, resume, run
from launch.cli_show import rank, recipes, spaces
from launch.option_hints import Command

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find the best way to train a classifier or a segmenter on your photos, within a budget.",
)
searching = (run, resume, rank, report, check, submit, status, logs, stop, fetch)
for command in (*searching, train, export, predict, evaluate, ensemble, refit, dashboard, spaces, recipes):
    app.command(cls=Command)(command)
