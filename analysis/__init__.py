"""Results of a search, read from the files of a run directory.

from analysis import load_run

run = load_run("runs/flowers")
"""

from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

__all__ = ["Run", "Trial", "load_run"]
