"""A table of images: column `image`, then `label`, or `labels` ('cat|dog'), or one 0/1 column per class; `split`."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search_spaces.errors import DataError
from search_spaces.names import did_you_mean
from trainables.data.csv_labels import labels_by_columns
from trainables.data.read_as import ReadAs
from trainables.data.reading import FileReader
from trainables.data.scan import Scan, content_digests
from trainables.data.words import counted, quoted

GIVEN_SPLITS = ("train", "val", "test")
COLUMNS = "A table has `image`, then `label`, or `labels` ('cat|dog'), or one 0/1 column per class; and maybe `split`."


@dataclass(frozen=True)
class Row:
    line: int
    cells: dict[str, str]


def scan_csv(spec: str, file: Path, read_as: ReadAs) -> Scan:
    """Image paths are relative to the table's folder and may not leave it.

    `spec` is how the messages call the file. A row whose image is missing is an error, or left out with a note
    where `read_as` says so.
    """
    columns, rows = _read(spec, file)
    labels = labels_by_columns(spec, columns)
    root = file.parent
    first: dict[str, Row] = {}  # image name -> the row that named it
    missing: list[str] = []
    repeated = 0
    for row in rows:
        name = _inside(spec, row, root)
        if name in first:
            _same_again(spec, name, first[name], row)
            repeated += 1
        elif (root / name).is_file():
            labels.add(row.line, row.cells)
            first[name] = row
        elif read_as.on_bad_image == "skip":
            missing.append(name)
        else:
            raise DataError(
                f"{spec}, line {row.line}: image '{name}' does not exist. Fix the row, or pass --on-bad-image skip."
            )
    if not first:
        found = f"none of the {counted(len(missing), 'image')} that it names exists" if missing else "it has no rows"
        raise DataError(f"no images found through '{spec}': {found}. {COLUMNS}")

    names = tuple(first)
    classes, targets = labels.finish()
    notes = []
    if missing:
        notes.append(f"{counted(len(missing), 'row')} left out, as the image does not exist: {quoted(missing)}.")
    if repeated:
        notes.append(f"{counted(repeated, 'row')} left out, as an earlier row says the same.")
    return Scan(
        classes=classes,
        names=names,
        targets=targets,
        given=np.array([_given_split(spec, row) for row in first.values()]),
        digests=content_digests([root / name for name in names]),
        reader=FileReader(root.resolve(), names),
        notes=tuple(notes),
    )


def _read(spec: str, file: Path) -> tuple[list[str], list[Row]]:
    try:
        with open(
            file, encoding="utf-8-sig", newline=""
        ) as text:  # -sig: Excel begins its files with a byte order mark
            table = csv.reader(text)
            columns = [cell.strip() for cell in next(table, [])]
            _check_columns(spec, columns)
            rows = []
            for cells in table:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(columns):
                    raise DataError(
                        f"{spec}, line {table.line_num}: {len(cells)} cells where the header has {len(columns)}. "
                        "Fix the row, and quote cells that hold a comma."
                    )
                stripped = (cell.strip() for cell in cells)
                rows.append(Row(table.line_num, dict(zip(columns, stripped, strict=True))))
            return columns, rows
    except UnicodeDecodeError as error:
        raise DataError(f"'{spec}' is not UTF-8 text ({error.reason}). Save it as 'CSV UTF-8'.") from error
    except csv.Error as error:
        raise DataError(f"'{spec}' is not a CSV table ({error}). {COLUMNS}") from error


def _check_columns(spec: str, columns: list[str]) -> None:
    if len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        raise DataError(
            f"{spec}, line 1: the columns are not separated by commas ({columns[0]!r}). Save it with commas."
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(f"{spec}, line 1: column {quoted(twice)} stands there twice. Remove or rename one.")
    if "image" not in columns:
        near = [name for name in columns if did_you_mean(name, ["image"]).startswith("Did")]
        hint = f"Is it '{near[0]}'? Rename it." if near else f"Found: {quoted(columns)}."
        raise DataError(f"{spec}, line 1: no column 'image'. {hint} {COLUMNS}")


def _inside(spec: str, row: Row, root: Path) -> str:
    """The image's path relative to the root; it may not lead out of it.

    Judged by its words, not by where links lead: a data folder's `images` is often a link to a bigger disk.
    """
    cell = row.cells["image"]
    name = os.path.relpath(os.path.join(root, cell), root)
    if not cell or name.split(os.sep)[0] == os.pardir:
        what = f"image '{cell}' leads out of the data folder" if cell else "the image cell is empty"
        raise DataError(
            f"{spec}, line {row.line}: {what}. Paths are relative to the folder of the table and stay inside it. "
            "Fix the row, or move the image there."
        )
    return Path(name).as_posix()


def _same_again(spec: str, name: str, first: Row, again: Row) -> None:
    differing = [column for column in first.cells if column != "image" and first.cells[column] != again.cells[column]]
    if differing:
        column = differing[0]
        what = "splits" if column == "split" else "labels"
        raise DataError(
            f"{spec}, line {again.line}: image '{name}' stands in line {first.line} with other {what} "
            f"({column}: '{first.cells[column]}', here '{again.cells[column]}'). Keep one of the rows."
        )


def _given_split(spec: str, row: Row) -> str:
    split = row.cells.get("split", "")
    if "split" in row.cells and split not in GIVEN_SPLITS:
        raise DataError(f"{spec}, line {row.line}: unknown split '{split}'. {did_you_mean(split, GIVEN_SPLITS)}")
    return split
