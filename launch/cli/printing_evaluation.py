"""What `evaluate` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.models.evaluate import Judged


def print_evaluation(found: Judged, console: Console) -> None:
    """Print the metrics of a model with their intervals, and those of each class.

    Above them stands what was assumed of the data. Below stands what the split was to the model.
    """
    for note in found.notes:
        console.print(note, style="yellow", soft_wrap=True)
    table = _table("metric", "value", "95% interval")
    for name, row in found.metrics.items():
        table.add_row(name, f"{row['value']:.4f}", _interval(row))
    console.print(table)
    columns = list(dict.fromkeys(column for row in found.classes.values() for column in row))
    counted = [column for column in columns if column in ("images", "pixels")]
    scored = [column for column in columns if column not in counted]
    per_class = _table("class", *counted, *(name for column in scored for name in (column, "95% interval")))
    for name, values in found.classes.items():
        cells = [str(values[column]) for column in counted]
        for column in scored:
            score = values.get(column)
            cells += ["", ""] if score is None else [f"{score['value']:.3f}", _interval(score)]
        per_class.add_row(name, *cells)
    console.print()
    console.print(per_class)
    images = "image" if found.num_images == 1 else "images"
    console.print(f"\nSplit {found.split}, {found.num_images} {images}. {found.note}", soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row else ""
