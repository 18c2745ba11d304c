"""Labels of a run's data that may be wrong: of all its photos where that is cheap, else of those that validated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from analysis.expect.candidates import predictions_of
from analysis.expect.suspects import mask_suspects, suspects
from analysis.figures.best_trial import Judged, probabilities_of
from analysis.models.export import find_trial
from analysis.models.unseen import MOST_IMAGES, unseen_logits
from launch.models.run_data import data_of_run
from trainables.config.io import parse_config
from trainables.tasks import LABEL_TASKS
from visionsweep.core.csv_cells import no_formula
from visionsweep.core.errors import InputError, RunError
from visionsweep.core.tasks import task_kind
from visionsweep.core.words import counted
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import value_at

SHOWN = 20


def labels_of_run(run: Run, named: str | None = None) -> pd.DataFrame:
    """Return the labels that may be wrong, the most doubtful first: see `analysis.expect.suspects`.

        named  where the user says that the data is, None: where the run says

    `attrs["note"]` says how they were judged. Raises RunError if nothing can judge them.
    """
    trial = find_trial(run, None)
    config = parse_config(trial.config, f"trial {trial.trial_id}")
    why = "masks are judged by the model itself"
    if not task_kind(run.task).pixels:
        try:
            data = data_of_run(run, named)
            found = unseen_logits(config, data, torch.device("cpu"))
            why = f"their backbone has no weights, or there are more than {MOST_IMAGES:,}, or too many classes"
        except InputError as error:
            found = None
            why = str(error).rstrip(".")
        if found is not None:
            rows, logits = found
            dataset = data.dataset
            encoded = LABEL_TASKS[run.task].encode(dataset.targets[rows], len(dataset.classes)).numpy() > 0.5
            probabilities = probabilities_of(run.task, logits)
            truth = np.concatenate([~encoded, encoded], axis=1) if task_kind(run.task).one_output else encoded
            names = [str(dataset.names[row]) for row in rows]
            table = suspects(run.task, dataset.classes, names, probabilities, truth)
            backbone = getattr(config.model, "backbone", "its backbone")
            table.attrs["note"] = (
                f"All {counted(len(rows), 'photo')} were judged, each by a head on {backbone} that has not seen it."
            )
            return table
    said = predictions_of(run, trial)
    if said is None:
        raise RunError(
            f"{run.run_dir}: no labels can be judged: the predictions of trial {trial.trial_id} are not kept, and "
            f"of all photos {why}. Restore the data, or name it with --data."
        )
    if isinstance(said, Judged):
        table = suspects(run.task, said.classes, said.names, said.probabilities, said.truth)
        num = len(said.names)
    else:
        names = [str(name) for name in value_at(run.search, "data.val")]
        table = mask_suspects(names, said)
        num = len(names)
    photos = counted(num, "validation photo" if run.num_folds == 1 else "photo")
    table.attrs["note"] = f"Only the {photos} were judged, by trial {trial.trial_id}: {why}."
    return table


def print_labels(run: Run, out: Path | None, console: Console, named: str | None = None) -> None:
    """Print the most doubtful labels, or write all of them to a CSV file. Raises RunError if it cannot be written."""
    table = labels_of_run(run, named)
    console.print(str(table.attrs["note"]), style="dim", soft_wrap=True)
    sure = f", {int(table['confident'].sum())} of them with confidence" if "confident" in table else ""
    if out is not None:
        write_labels(table, out)
        console.print(f"{counted(len(table), 'label')} may be wrong{sure}: {out}", soft_wrap=True)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        shown.add_column(str(column), overflow="fold")
    for row in table.head(SHOWN).itertuples(index=False):
        shown.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    console.print(shown)
    more = f" The first {SHOWN} are shown." if len(table) > SHOWN else ""
    console.print(
        f"{counted(len(table), 'label')} may be wrong{sure}.{more} --out FILE.csv writes them.", soft_wrap=True
    )


def write_labels(table: pd.DataFrame, out: Path) -> None:
    """Write the table as CSV. Raises RunError if it cannot be written."""
    plain = table.assign(**{str(name): table[name].map(no_formula) for name in table.columns})
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        plain.to_csv(out, index=False, errors="surrogateescape")
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error}). Choose another --out.") from None
