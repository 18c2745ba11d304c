"""Cells of CSV tables as text that a spreadsheet displays and does not evaluate."""

from __future__ import annotations

from typing import TypeVar

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # first characters that make a spreadsheet evaluate a cell

Cell = TypeVar("Cell")


def no_formula(cell: Cell) -> Cell | str:
    """Return a cell unchanged, or with an apostrophe before text that a spreadsheet would evaluate.

    A class may be called `=HYPERLINK(...)`, and a file `@SUM(1)`. Numbers stay numbers, also -1 as text. Source: OWASP,
    CSV Injection.
    """
    if not isinstance(cell, str) or not cell.startswith(FORMULAS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
