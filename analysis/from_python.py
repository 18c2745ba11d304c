"""What was learned from a run, as Python asks for it: of a path, a Run, or a search that may be running."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import pandas as pd

from analysis.expect.expected import Expected, expected_score
from analysis.expect.ties import as_good
from visionsweep.core.errors import RunError
from visionsweep.core.s3 import is_remote
from visionsweep.run_dir.load import Readable, load_run
from visionsweep.run_dir.rank import ranking_frame
from visionsweep.run_dir.run import Run

AnyRun: TypeAlias = Path | str | Run | Readable


def ranking(run: AnyRun) -> pd.DataFrame:
    """Return a row for each trial, best first: see `visionsweep.run_dir.rank.ranking_frame`.

    The column `as_good` says whether a trial is tied with the best on the same photos. It is None where nobody
    can say (`analysis.expect.ties`).
    """
    found = load_run(run)
    table = ranking_frame(found)
    if len(table):
        alike = as_good(found)
        table.insert(2, "as_good", [alike.get(trial_id) for trial_id in table["trial_id"]])
    return table


def expected(run: AnyRun) -> Expected | None:
    """Return what to expect of the best trial on new photos: see `analysis.expect.expected`.

    None where nobody can say: without the predictions of two trials, for several objectives, for fewer than 20 photos.
    """
    return expected_score(load_run(run))


def importance(run: AnyRun) -> pd.DataFrame:
    """Return how much each parameter decided: see `analysis.figures.importance.importance`."""
    from analysis.figures.importance import importance  # optuna and plotly: a ranking need not wait for them

    return importance(load_run(run))


def compare(run: AnyRun, parameter: str) -> pd.DataFrame:
    """Return the values of a choice against each other: see `analysis.figures.compare.compare`."""
    from analysis.figures.compare import compare

    return compare(load_run(run), parameter)


def report(run: AnyRun, out: Path | str | None = None, *, with_model: bool = True) -> Path:
    """Write a run's HTML page, and return its path.

        out         the page, None means report.html in the run directory
        with_model  also the parts that need the best trial's weights and the data

    Raises RunError if there is no run, or the page cannot be written.
    """
    from analysis.report import write_report

    folder = str(getattr(run, "run_dir", run))
    if is_remote(folder):
        raise RunError(
            f"{folder}: is on S3, and a page is written of a folder. `visionsweep fetch {folder}` brings it."
        )
    return write_report([folder], None if out is None else Path(out), with_model=with_model)
