"""The commands of `visionsweep`, by name."""

from __future__ import annotations

from typing import Annotated

import typer

from launch.cli.after import dashboard, ensemble, labels, refit
from launch.cli.evaluate import evaluate
from launch.cli.jobs import fetch, logs, status, stop, submit
from launch.cli.models import export, predict, train
from launch.cli.option_hints import Command
from launch.cli.report import report
from launch.cli.runs import rank, recipes, spaces
from launch.cli.search import check, resume, run


def _print_version(asked: bool) -> None:
    if asked:
        import visionsweep

        typer.echo(f"visionsweep {visionsweep.__version__}")
        raise typer.Exit


app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find the best way to train a classifier or a segmenter on your photos, within a budget.",
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


searching = (run, resume, rank, report, check, submit, status, logs, stop, fetch)
for command in (*searching, train, export, predict, evaluate, ensemble, refit, labels, dashboard, spaces, recipes):
    app.command(cls=Command)(command)
