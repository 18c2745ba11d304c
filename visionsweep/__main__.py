"""`python -m visionsweep`: the command line, the same as the command `visionsweep`."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    # Python looks through the current folder first. A user's launch.py or torch.py there would hide ours.
    here = Path.cwd()
    if sys.path[0] in ("", os.getcwd()) and here != Path(__file__).resolve().parents[1]:
        del sys.path[0]
    from launch.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()
