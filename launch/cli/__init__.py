"""The command line: `main` is what `visionsweep` and `python -m launch.cli` run."""

from launch.cli.app import main

__all__ = ["main"]
