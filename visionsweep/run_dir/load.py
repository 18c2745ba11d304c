"""A run directory as objects, readable while the search runs, after a crash, or long after.

    run = load_run("runs/flowers")
    run.ranking()             # pandas: a row per trial, best first, with every parameter in its column
    run.curves()              # a row per trial and epoch
    run.importance()          # how much each parameter decided
    run.compare("optimizer")  # its arms against each other, with intervals

Its lines are parsed in `trials.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from visionsweep.core.objectives import Objective, parse_objectives
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.trials import Trial, read_search, read_trials


@dataclass(frozen=True, repr=False)
class Run:
    """A run directory, read at one moment."""

    run_dir: Path
    search: dict[str, Any]  # search.json
    trials: list[Trial]
    notes: tuple[str, ...] = ()  # what `load_run(strict=False)` skipped

    @property
    def metric(self) -> str:
        return str(value_at(self.search, "search.metric"))

    @property
    def mode(self) -> str:
        return str(value_at(self.search, "search.mode"))

    @property
    def task(self) -> str:
        return str(value_at(self.search, "search.task"))

    @property
    def full_epochs(self) -> int:
        """Number of epochs of a trial that is never stopped."""
        return int(value_at(self.search, "search.epochs"))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What its trials are compared by, the metric first."""
        several = value_at(self.search, "search").get("objectives")
        if several:
            return parse_objectives(several, self.task)
        return (Objective(self.metric, "max" if self.mode == "max" else "min"),)

    def curves(self) -> pd.DataFrame:
        """Return a row for each trial and epoch: trial_id, epoch, seconds, images_per_s, lr and every metric."""
        rows = [
            {
                "trial_id": trial.trial_id,
                **{key: value for key, value in row.items() if key != "metrics"},
                **row["metrics"],
            }
            for trial in self.trials
            for row in trial.epochs
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        from visionsweep.run_dir.shown import run_line

        return run_line(self)

    def _repr_html_(self) -> str:
        from visionsweep.run_dir.shown import run_html

        return run_html(self)

    # The methods below are shortcuts for notebooks. They import late, because those files import this one.

    def ranking(self) -> pd.DataFrame:
        """See `visionsweep.run_dir.rank.ranking_frame`.

        The column `as_good` says whether a trial cannot be told from the best on the same photos, None where nobody can
        say (`analysis.expect.ties`).
        """
        from analysis.expect.ties import as_good
        from visionsweep.run_dir.rank import ranking_frame

        table = ranking_frame(self)
        if len(table):
            alike = as_good(self)
            table.insert(2, "as_good", [alike.get(trial_id) for trial_id in table["trial_id"]])
        return table

    def importance(self) -> pd.DataFrame:
        """See `analysis.figures.importance.importance`."""
        from analysis.figures.importance import importance

        return importance(self)

    def compare(self, parameter: str) -> pd.DataFrame:
        """See `analysis.figures.compare.compare`."""
        from analysis.figures.compare import compare

        return compare(self, parameter)


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
    from visionsweep.run_dir.damaged import load_damaged

    return load_damaged(run_dir)
