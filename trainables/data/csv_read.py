"""The cells of a table: from a file of text to named columns and rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainables.data.csv_columns import COLUMNS, checked_columns
from visionsweep.core.errors import DataError


@dataclass(frozen=True)
class Row:
    """A row of a table. line: where it begins in the file, from 1. cells: by column."""

    line: int
    cells: dict[str, str]


def read_table(spec: str, file: Path) -> tuple[list[str], list[Row], list[str]]:
    """Columns, rows and notes of a table with commas. Raises DataError with the line that is wrong."""
    try:
        # -sig: Excel begins its files with a byte order mark.
        with open(file, encoding="utf-8-sig", newline="") as text:
            # A blank after the comma would otherwise make the quotes of `a.jpg, "cat, dog"` part of the cell.
            table = csv.reader(_without_nul(spec, text), skipinitialspace=True)
            begin = next((cells for cells in table if any(map(str.strip, cells))), [])
            header = [cell.strip("\ufeff \t\xa0") for cell in begin]  # a table may be pasted below another's mark
            columns, notes = checked_columns(spec, header)
            return columns, list(_rows(spec, table, header, columns)), notes
    except UnicodeDecodeError as error:
        raise DataError(f"'{spec}' is not UTF-8 text ({error.reason}). Save it as 'CSV UTF-8'.") from error
    except csv.Error as error:
        raise DataError(f"'{spec}' is not a CSV table ({error}). {COLUMNS}") from error


def _rows(spec: str, table: Iterator[list[str]], header: list[str], columns: list[str]) -> Iterator[Row]:
    end = table.line_num  # type: ignore[attr-defined]
    for cells in table:
        begin, end = end + 1, table.line_num  # type: ignore[attr-defined]
        stripped = [cell.strip() for cell in cells]
        if not any(stripped):
            continue
        if end > begin:
            raise DataError(
                f"{spec}, line {begin}: the row goes on to line {end}, so a quote in it may never close. "
                "Close it, and write each row on one line."
            )
        if len(stripped) != len(columns):
            raise DataError(
                f"{spec}, line {begin}: {len(stripped)} cells where the header has {len(columns)}. "
                "Fix the row, and quote cells that hold a comma."
            )
        if stripped == header:
            raise DataError(f"{spec}, line {begin}: the row repeats the header. Remove it.")
        yield Row(begin, dict(zip(columns, stripped, strict=True)))


def _without_nul(spec: str, text: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(text, 1):
        if "\0" in line:
            raise DataError(
                f"{spec}, line {number}: there is a NUL byte, as in UTF-16 text. Save the table as 'CSV UTF-8'."
            )
        yield line
