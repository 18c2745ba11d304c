"""All numbers of the page as CSV files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from analysis.figures.compare import choices, compare_of
from analysis.figures.cost import best_so_far
from analysis.figures.fixed_epoch import scores_at_epoch
from analysis.figures.importance import importance_of
from analysis.figures.timeline import failures, timeline
from analysis.figures.tradeoff import costs
from visionsweep.core.csv_cells import no_formula
from visionsweep.core.errors import RunError
from visionsweep.run_dir.rank import ranking_frame
from visionsweep.run_dir.run import Run


def write_tables(run: Run, folder: Path) -> list[Path]:
    """Write ranking, curves, importance, compare, costs, progress, timeline and failures as .csv below `folder`.

    Raises RunError if they cannot be written.
    """
    at_epoch = scores_at_epoch(run)
    compared = [compare_of(run, at_epoch, name).assign(parameter=name) for name in choices(at_epoch)]
    tables = {
        "ranking": ranking_frame(run),
        "curves": run.curves(),
        "importance": importance_of(at_epoch),
        "compare": pd.concat(compared, ignore_index=True) if compared else pd.DataFrame(),
        "costs": costs(run),
        "progress": best_so_far(run),
        "timeline": timeline(run),
        "failures": failures(run).assign(trials=lambda table: table["trials"].map(" ".join)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            _plain(table).to_csv(folder / f"{name}.csv", index=False, errors="replace")
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror or error}). Choose another --csv.") from None
    return [folder / f"{name}.csv" for name in tables]


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table without text that a spreadsheet would evaluate: names of classes and values are not ours."""
    text = {name: column.map(no_formula) for name, column in table.items() if not is_numeric_dtype(column)}
    return table.assign(**{str(name): column for name, column in text.items()}).rename(columns=no_formula)
