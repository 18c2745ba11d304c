"""A table of images: a column `image`, then the labels, and perhaps `split`.

The labels are one column `label`, or `labels` ('cat|dog'), or one 0/1 column per class.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.data.csv_columns import COLUMNS, left_out
from trainables.data.csv_labels import labels_by_columns
from trainables.data.csv_paths import image_name, is_file, near_file
from trainables.data.csv_read import Row, read_table
from trainables.data.csv_separators import shown
from trainables.data.group_cells import column_of_groups, grouped
from trainables.data.read_as import ReadAs
from trainables.data.reading import FileReader
from trainables.data.scan import Scan, content_digests
from trainables.data.split_names import split_of
from visionsweep.core.errors import DataError
from visionsweep.core.names import did_you_mean
from visionsweep.core.words import counted, quoted

GIVEN_SPLITS = ("train", "val", "test")


def scan_csv(spec: str, file: Path, read_as: ReadAs) -> Scan:
    """Scan the table `file`, called `spec` in messages.

    Image paths are relative to the table's folder and may not leave it. A row whose image is missing is an error, or
    left out with a note if `read_as` skips bad images.
    """
    columns, rows, notes = read_table(spec, file)
    group = column_of_groups(spec, columns, read_as)
    columns = [name for name in columns if name != group]
    by_columns = not {"label", "labels"} & set(columns)
    columns, ignored = left_out(spec, columns, lambda name: [row.cells[name] for row in rows], by_columns=by_columns)
    notes += ignored
    if read_as.label_separator is not None and "labels" not in columns:
        notes.append("--label-separator is not used: the table has no column `labels`.")
    read_labels = labels_by_columns(spec, columns, read_as)
    first, missing, repeated = _with_images(spec, rows, [*columns, *([group] if group else [])], file.parent, read_as)
    if not first:
        found = _nothing(file.parent, missing) if missing else "it has no rows"
        raise DataError(f"no images found through '{spec}': {found}. {COLUMNS}")

    names = tuple(first)
    kept = list(first.values())
    labels = read_labels(kept)
    given, taken = _given_splits(spec, kept)
    notes += [*_written_by_windows(names, kept), *labels.notes, *taken]
    if missing:
        notes.append(f"{counted(len(missing), 'row')} left out, as the image does not exist: {quoted(missing)}.")
    if repeated:
        notes.append(f"{counted(repeated, 'row')} left out, as an earlier row says the same.")
    scan = Scan(
        classes=labels.classes,
        names=names,
        targets=labels.targets,
        given=given,
        digests=content_digests([f"{file.parent}{os.sep}{name}" for name in names]),
        reader=FileReader(file.parent.resolve(), names),
        notes=tuple(notes),
    )
    if group is None:
        return scan
    return grouped(scan, [row.cells[group] for row in kept], f"column '{group}'", "the column is empty")


def _with_images(
    spec: str, rows: Sequence[Row], columns: Sequence[str], root: Path, read_as: ReadAs
) -> tuple[dict[str, Row], list[str], int]:
    """Return the first row of each image by name, the missing images, and the number of repeated rows."""
    first: dict[str, Row] = {}
    missing: list[str] = []
    repeated = 0
    for row in rows:
        name = image_name(spec, row.line, row.cells["image"], root)
        if name in first:
            _same_again(spec, name, columns, read_as.group, first[name], row)
            repeated += 1
        elif is_file(f"{root}{os.sep}{name}"):
            first[name] = row
        elif read_as.on_bad_image == "skip":
            missing.append(name)
        else:
            near = near_file(root, name)
            hint = f", but '{near}' does" if near else ""
            raise DataError(
                f"{spec}, line {row.line}: image '{shown(name)}' does not exist{hint}. "
                "Fix the row, or pass --on-bad-image skip."
            )
    return first, missing, repeated


def _nothing(root: Path, missing: Sequence[str]) -> str:
    near = near_file(root, missing[0])
    hint = f"; '{missing[0]}' may be '{near}'" if near else ""
    return f"none of the {counted(len(missing), 'image')} that it names exists{hint}"


def _same_again(spec: str, name: str, columns: Sequence[str], group: str | None, first: Row, again: Row) -> None:
    differing = [column for column in columns if column != "image" and first.cells[column] != again.cells[column]]
    if differing:
        column = differing[0]
        what = "splits" if column == "split" else "groups" if column == group else "labels"
        raise DataError(
            f"{spec}, line {again.line}: image '{name}' stands in line {first.line} with other {what} "
            f"({column}: '{first.cells[column]}', here '{again.cells[column]}'). Keep one of the rows."
        )


def _given_splits(spec: str, rows: Sequence[Row]) -> tuple[np.ndarray, list[str]]:
    """Return the given splits, (N,) str, and notes about names other than train, val and test.

    The splits are '' if there is no column `split`.
    """
    given = []
    taken = dict[str, str]()
    for row in rows:
        name = row.cells.get("split", "")
        split = split_of(name)
        if "split" in row.cells and split is None:
            raise DataError(f"{spec}, line {row.line}: unknown split '{name}'. {did_you_mean(name, GIVEN_SPLITS)}")
        if split is not None and name != split:
            taken[name] = split
        given.append(split or "")
    notes = [f"Split '{name}' is taken as '{split}'." for name, split in taken.items()]
    return np.array(given), notes


def _written_by_windows(names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    turned = [
        (row.cells["image"], name)
        for name, row in zip(names, rows, strict=True)
        if "\\" in row.cells["image"] and "\\" not in name
    ]
    if not turned:
        return []
    cell, name = turned[0]
    return [f"{counted(len(turned), 'path')} with backslashes taken with slashes: '{cell}' as '{name}'."]
