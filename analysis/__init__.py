"""Results of a search, read from the files of a run directory.

from analysis import load_run

run = load_run("runs/flowers")
"""

from analysis.load import Run, load_run
from analysis.trials import Trial

__all__ = ["Run", "Trial", "load_run"]
