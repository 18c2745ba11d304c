"""visionsweep's one door: the commands, and what becomes of errors."""

from __future__ import annotations

import os
import sys

import typer

from launch.cli_after import dashboard, ensemble, refit
from launch.cli_evaluate import evaluate
from launch.cli_jobs import fetch, logs, status, stop, submit
from launch.cli_models import export, predict, train
from launch.cli_report import report
from launch.cli_search import check, resume, run
from launch.cli_show import rank, recipes, spaces
from launch.machines.token import use_token
from search_spaces.errors import InputError, VisionsweepError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find the best way to train a classifier or a segmenter on your photos, within a budget.",
)
searching = (run, resume, rank, report, check, submit, status, logs, stop, fetch)
for command in (*searching, train, export, predict, evaluate, ensemble, refit, dashboard, spaces, recipes):
    app.command()(command)


def main() -> None:
    """Entry point. An InputError is one clear message and exit code 2; anything else is ours to mend."""
    # Nothing calls out unasked: albumentations asks for a newer version, Ray sends usage statistics.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    use_token()
    try:
        app()
    except InputError as error:
        _say(error)
        sys.exit(2)
    except VisionsweepError as error:  # a single training that ended (`train`): diverged, interrupted
        _say(error)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as ended:  # typer makes the one into the other
        if isinstance(ended, SystemExit) and ended.code != 130:
            raise
        again = "`visionsweep resume RUN`, `train` with the same --out, or the same `refit`"
        _say(f"stopped. What had begun goes on from its last epoch: {again}.")
        sys.exit(130)


def _say(message: object) -> None:
    from launch.terminal import printable  # rich, which a command that is obeyed need not wait for

    print(f"visionsweep: {printable(str(message))}", file=sys.stderr)


if __name__ == "__main__":
    main()
