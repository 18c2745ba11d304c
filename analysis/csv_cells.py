"""Cells of the tables that we write: text that a spreadsheet shows and does not obey."""

from __future__ import annotations

from typing import TypeVar

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that a spreadsheet computes

Cell = TypeVar("Cell")


def no_formula(cell: Cell) -> Cell | str:
    """Return a cell as it is, but for text that a spreadsheet would compute: that gets an apostrophe before it.

    A class may be called `=HYPERLINK(...)`, and a file `@SUM(1)`. Numbers stay numbers, also -1 as text.
    Source: OWASP, CSV Injection.
    """
    if not isinstance(cell, str) or not cell.startswith(FORMULAS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
