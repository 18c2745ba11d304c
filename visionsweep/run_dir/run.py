"""A run as plain data: its search, its trials and their epochs, as they stood at one moment.

`load.py` reads one. What was learned from it are functions: `visionsweep.ranking(run)`, `importance` and `compare`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from visionsweep.core.objectives import Objective, parse_objectives, sign_of
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.shown import run_html, run_line
from visionsweep.run_dir.trials import Trial

SETTLED = "settled"  # key of search.json: when no more than noise was left to gain


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
    def sign(self) -> int:
        """+1 if higher values of the metric are better, -1 if lower ones are."""
        return sign_of(self.mode)

    @property
    def task(self) -> str:
        return str(value_at(self.search, "search.task"))

    @property
    def full_epochs(self) -> int:
        """Number of epochs of a trial that is never stopped."""
        return int(value_at(self.search, "search.epochs"))

    @property
    def num_folds(self) -> int:
        """Number of folds that a complete trial is judged on, 1 without any."""
        return int(self.search.get("data", {}).get("folds", 1))

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
        return run_line(self)

    def _repr_html_(self) -> str:
        return run_html(self)
