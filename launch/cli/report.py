"""The command that shows what a search found: report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.cli.options import new_console

if TYPE_CHECKING:
    from visionsweep.run_dir.run import Run


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="One or several run directories.")],
    out: Annotated[Path | None, typer.Option(help="The page; default: report.html in the first RUN.")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow a search, until it ends or Ctrl-C.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the tables as CSV files into this folder.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the figures as PNG files into this folder.")] = None,
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Leave out images, masks and the map of features: seconds faster.")
    ] = False,
) -> None:
    """Write one HTML page about a run, or about several beside each other. Works while the search runs."""
    from launch.cli.stages import stages_shown

    with stages_shown("importing libraries"):
        import webbrowser

        from analysis.report import write_report
        from launch.remote.location import local_run
        from visionsweep.core.stages import stage
        from visionsweep.run_dir.load import load_run

        stage("reading the run")
        console, folders = new_console(), [local_run(run) for run in runs]
    if csv is not None or png is not None:
        for run_dir in folders:
            own = Path() if len(runs) == 1 else Path(run_dir.resolve().name)
            for path in _files(load_run(run_dir, strict=False), own, csv, png, with_model=not no_model):
                console.print(str(path), soft_wrap=True)
        return

    def told(page: Path) -> None:
        nonlocal open_it
        console.print(f"Report: {page}", soft_wrap=True)
        if open_it:
            webbrowser.open(page.resolve().as_uri())
            open_it = False  # once

    if watch:
        from analysis.report.watch import watch as follow

        follow(folders, out, with_model=not no_model, on_written=told)
    else:
        with stages_shown("reading the run"):
            page = write_report(folders, out, with_model=not no_model)
        told(page)


def _files(run: Run, own: Path, csv: Path | None, png: Path | None, *, with_model: bool) -> Iterator[Path]:
    """Write the tables and figures asked for, and yield their paths. own: the run's folder below the named ones."""
    if csv is not None:
        from analysis.report.tables import write_tables

        yield from write_tables(run, csv / own)
    if png is not None:
        from analysis.report.pictures import write_pictures

        yield from write_pictures(run, png / own, with_model=with_model)
