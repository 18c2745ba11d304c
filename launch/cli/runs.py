"""Commands that only look: rank, spaces, recipes. Heavy libraries are imported inside them."""

from __future__ import annotations

from typing import Annotated

import typer

from launch.cli.options import Json, RunArgument, new_console


def rank(
    run_dir: RunArgument,
    top: Annotated[int | None, typer.Option(min=1, help="Only the best N.")] = None,
    json: Json = False,
) -> None:
    """Rank a run's trials, complete ones first, and tell how sure the best is. Works while the search runs."""
    from analysis.expect.chances import chances_of
    from analysis.expect.ties import as_good
    from launch.cli.outcome import print_story
    from launch.cli.printing import print_json, print_ranking
    from launch.remote.open_run import open_run
    from visionsweep.run_dir.rank import ranking

    with open_run(run_dir) as loaded:
        rows = ranking(loaded)[:top]
        if json:
            alike = as_good(loaded)
            print_json([{**row, "as_good": alike.get(row["trial_id"])} for row in rows])
            return
        chances = chances_of(loaded)
        console = new_console()
        print_ranking(loaded, rows, console, chances.as_good)
        print_story(loaded, chances, console)


def spaces(
    name: Annotated[str | None, typer.Argument(help="A shipped search or a Python file.")] = None,
) -> None:
    """List the shipped searches, or describe one."""
    from launch.cli.loading import load_search
    from launch.cli.printing_search import print_search, print_searches

    if name is None:
        print_searches(new_console())
    else:
        print_search(name, load_search(name), new_console())


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe.")] = None,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print the YAML alone, for a file.")] = False,
) -> None:
    """List the reports' pipelines as recipes, or tell where one comes from and print it."""
    from launch.cli.recipes import show

    show(name, as_yaml, new_console())
