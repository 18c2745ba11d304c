"""Predictions as tables: CSV and JSON, on standard output or in a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionsweep.core.csv_cells import no_formula
from visionsweep.core.errors import RunError


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table with a line per image.

    The columns are path, label (several with | between) and the files of its mask. Then comes `probability/CLASS` or
    `share/CLASS` for each class. A column `error` is last, if an image could not be read.

    Text that a spreadsheet would take for a formula begins with an apostrophe: see `no_formula`.
    """
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(["path", *(column for row in flat for column in row)]))
    columns.sort(key=lambda column: column == "error")  # last, wherever the first broken image stood
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writerow({column: no_formula(column) for column in columns})
    writer.writerows({column: no_formula(cell) for column, cell in row.items()} for row in flat)
    return text.getvalue()


def as_json(rows: Sequence[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=1) + "\n"


def write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a table to a file, in the form that its name ends in. Raises RunError if it cannot be written."""
    text = as_csv(rows) if path.suffix.lower() == ".csv" else as_json(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}). Choose another --out.") from None


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "labels":
            flat["labels"] = "|".join(value)
        elif key == "probabilities":
            flat |= {f"probability/{name}": number for name, number in value.items()}
        elif key == "shares":
            flat |= {f"share/{name}": number for name, number in value.items()}
        else:
            flat[key] = value
    return flat
