"""A run directory as a `Run`, readable while the search runs, after a crash, or long after.

    run = vs.load_run("runs/flowers")
    vs.ranking(run)               # pandas: a row per trial, best first, with every parameter in its column
    run.curves()                  # a row per trial and epoch
    vs.importance(run)            # how much each parameter decided
    vs.compare(run, "optimizer")  # its arms against each other, with intervals

Its lines are parsed in `trials.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from visionsweep.run_dir.damaged import load_damaged
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import read_search, read_trials


class Readable(Protocol):
    """What can be read as a run at any moment: a search of `visionsweep.search`, which may be running."""

    def load(self) -> Run: ...


def load_run(run_dir: Path | str | Run | Readable, *, strict: bool = True) -> Run:
    """Read a run directory, of a path or of a running search. Raises RunError if it is none or cannot be read.

    A Run is returned as it is.
    With strict=False, what is damaged, missing or of another format version is skipped and named in `Run.notes`. Only a
    folder without any of a run's files is then refused.
    """
    if isinstance(run_dir, Run):
        return run_dir
    if not isinstance(run_dir, (str, Path)):
        return run_dir.load()
    run_dir = Path(run_dir)
    if strict:
        return Run(run_dir, read_search(run_dir), list(read_trials(run_dir).values()))
    return load_damaged(run_dir)
