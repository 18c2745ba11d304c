"""Roboflow's _classes.csv: a column `filename`, then one 0/1 column for each class. One in each folder of a split."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from trainables.data.csv_labels import ZERO_ONE
from trainables.data.mask_names import read_lines
from trainables.data.split_names import split_of
from trainables.data.tools.gathered import Annotated, Gathered
from visionsweep.core.errors import DataError
from visionsweep.core.words import quoted

LABEL_TABLE = "_classes.csv"


def read_label_tables(found: Gathered, files: Sequence[Path]) -> None:
    """Add the images of these tables, whose columns must agree. Raises DataError."""
    found.tool = "Roboflow"
    found.several_labels = True
    for file in files:
        called = found.called(file)
        folder = called.rpartition("/")[0]
        split = split_of(folder.rpartition("/")[2]) or "" if len(files) > 1 else ""
        rows = [[cell.strip() for cell in row] for row in csv.reader(read_lines(found.spec, file, called)) if row]
        classes = tuple(rows[0][1:])
        if "" in classes or len(set(classes)) < len(classes):
            raise found.error(called, f"names a class twice, or not at all ({quoted(classes)})")
        if found.classes and set(found.classes) != set(classes):
            raise found.error(called, f"has the classes {quoted(classes)}, and another table {quoted(found.classes)}")
        found.classes = found.classes or classes
        for line, (name, *cells) in enumerate(rows[1:], 2):
            with found.image_at(f"{called}, line {line}"):
                wrong = next((cell for cell in cells if cell not in ZERO_ONE), None)
                if len(cells) != len(classes) or wrong is not None:
                    problem = f"{len(cells)} cells" if wrong is None else f"'{wrong}', which is neither 0 nor 1"
                    raise DataError(f"must have 0 or 1 for each of {len(classes)} classes, got {problem}")
                labels = tuple(one for one, cell in zip(classes, cells, strict=True) if ZERO_ONE[cell])
                found.add(Annotated(found.find(name, folder, split), called, (), labels, split), called)
