"""`visionsweep predict`: predictions with a progress bar, printed or written as a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from analysis.models.annotations import FORMS
from analysis.models.predict import TABLES, predict_images
from launch.cli.printing import print_predictions
from launch.models.bar import bar_on
from launch.models.tables import as_csv, as_json, write_table
from launch.remote.images import brought, by_address
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import did_you_mean
from visionsweep.core.printable import printable

FORMATS = ("text", "csv", "json", *FORMS)


def predict_and_tell(
    export_dir: Path, images: Sequence[str], out: Path | None, form: str, console: Console, *, flips: bool
) -> bool:
    """Predict images, and print or write the result. Returns whether an image could not be read.

    out: a table's file, or the folder of masks and of a tool's annotations. Raises InputError before anything is
    predicted.
    """
    if form not in FORMATS:
        raise ConfigError(f"unknown --format '{form}'. {did_you_mean(form, FORMATS)}")
    table = out if out is not None and out.suffix.lower() in TABLES else None
    paths, copies = brought(images)
    # The bar is on standard error, as standard output may be a file.
    with bar_on(Console(stderr=True, highlight=False, markup=False)) as bar:
        task = bar.add_task("predicting", total=None)
        rows = predict_images(
            export_dir,
            paths,
            out,
            flips=flips,
            annotations=form if form in FORMS else None,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            note=lambda sentence: bar.console.print(printable(sentence), soft_wrap=True),
        )
    by_address(rows, copies)
    if table is not None:
        write_table(rows, table)
        print_predictions([row for row in rows if "error" in row], console)
        console.print(f"{len(rows)} images: {table}", soft_wrap=True)
    elif form == "text" or form in FORMS:
        print_predictions(rows, console)
    else:
        text = as_csv(rows) if form == "csv" else as_json(rows)
        sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    return any("error" in row for row in rows)
