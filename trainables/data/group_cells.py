"""The groups of a data set as cells: a table's column, or what a file or a pattern gives for each image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from trainables.data.csv_columns import SPECIAL
from trainables.data.csv_labels import MISSING
from trainables.data.read_as import ReadAs, is_group_file
from trainables.data.scan import Scan
from visionsweep.core.errors import DataError
from visionsweep.core.names import did_you_mean
from visionsweep.core.words import counted, quoted

GROUPS_FILE = "groups.csv"
_PATTERN = re.compile(r"[()\[\]\\*+^$?|{}]")  # what a pattern has and the name of a column hardly ever


def stem_of(name: str) -> str:
    """Return an image's name without folders and without its ending."""
    return PurePosixPath(name).stem


def is_column(group: str) -> bool:
    """Whether --group can only be a table's column: it is neither a file nor a pattern."""
    return not is_group_file(group) and not _PATTERN.search(group)


def column_of_groups(spec: str, columns: Sequence[str], read_as: ReadAs) -> str | None:
    """Return the column of a table that --group names, or None where it is a file or a pattern.

    Raises DataError if there is no such column.
    """
    group = read_as.group
    if group is None:
        return None
    if group in columns:
        if group in SPECIAL:
            raise DataError(f"--group {group}: that column gives the {group}. Name another one, a file or a pattern.")
        return group
    if not is_column(group) or not read_as.for_training:  # data that is only judged may lack what training data had
        return None
    others = [name for name in columns if name not in SPECIAL]
    near = did_you_mean(group, others) if others else "The table has no column for it."
    raise DataError(f"{spec}, line 1: no column '{group}', which --group names. {near}")


def grouped(scan: Scan, cells: Sequence[str], by: str, why_alone: str) -> Scan:
    """Return the scan with groups by N cells. Images with an empty cell stand alone, and a note counts them.

    by         what gave them, in words
    why_alone  why a cell is empty, in words
    """
    number: dict[str, int] = {}
    groups = np.empty(len(cells), np.int64)
    alone = []
    for image, cell in enumerate(cells):
        if cell in ("", *MISSING):
            alone.append(scan.names[image])
            groups[image] = -1
        else:
            groups[image] = number.setdefault(cell, len(number))
    groups[groups < 0] = len(number) + np.arange(len(alone))
    notes = scan.notes
    if alone:
        notes = (*notes, f"{counted(len(alone), 'image')} in no group, as {why_alone}: {quoted(alone)}.")
    return replace(scan, groups=groups, grouped_by=by, notes=notes)
