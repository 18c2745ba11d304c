"""Entry point of visionsweep: what holds for every command, and what errors turn into. The commands: `commands.py`."""

from __future__ import annotations

import os
import sys

from launch.cli.hidden import what_hides


def main() -> None:
    """Run a command.

    An InputError is one clear message and exit code 2. A training that ended early exits with 1, a signal with its own
    code. Any other exception is a defect of visionsweep.
    """
    hidden = what_hides()
    if hidden is not None:
        print(f"visionsweep: {hidden}", file=sys.stderr)
        sys.exit(2)
    from launch.cli.door import open_doors
    from launch.cli.signals import exit_code, listening
    from launch.machines.auth_token import use_token
    from launch.python.caller import end_with_caller, tell_caller
    from visionsweep.core.errors import InputError, VisionsweepError

    # No network access unasked: albumentations looks for a newer version, Ray sends usage statistics.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    open_doors()
    with listening():
        try:
            end_with_caller()
            use_token()
            from launch.cli.commands import app

            app()
        except InputError as error:
            _say(error)
            tell_caller(error)
            sys.exit(2)
        except VisionsweepError as error:  # a single training that ended (`train`): diverged, interrupted
            _say(error)
            tell_caller(error)
            sys.exit(1)
        except (KeyboardInterrupt, SystemExit) as ended:  # typer turns the first into the second
            if isinstance(ended, SystemExit) and ended.code != 130:
                raise
            again = "`visionsweep resume RUN`, `train` with the same --out, or the same `refit`"
            _say(f"stopped. What had begun resumes from its last epoch: {again}.")
            sys.exit(exit_code())


def _say(message: object) -> None:
    from visionsweep.core.printable import printable

    print(f"visionsweep: {printable(str(message))}", file=sys.stderr)
