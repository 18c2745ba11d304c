"""Tables on narrow terminals: columns that a user needs stay whole, the others are left out one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.table import Table

GAP = 2  # between two columns
LEAST_FOLDED = 16  # of the column that folds; narrower it is one word a line


def table_for(
    width: int, columns: Mapping[str, Sequence[str]], *, left: Sequence[str], given_up: Sequence[str], folds: str
) -> tuple[Table, list[str]]:
    """Return a table without rows and the names of its columns, as many as `width` holds.

    columns   the cells of each, by its header
    left      those that are justified to the left
    given_up  those that may be left out, in this order
    folds     the one whose cells go on in the next line
    """
    needs = {name: max(map(cell_len, (name, *cells))) for name, cells in columns.items()}
    if folds in needs:
        needs[folds] = min(needs[folds], LEAST_FOLDED)
    for name in given_up:
        if sum(needs.values()) + GAP * (len(needs) - 1) <= width:
            break
        needs.pop(name, None)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in needs:
        justify: Literal["left", "right"] = "left" if name in left else "right"
        table.add_column(name, justify=justify, no_wrap=name != folds)
    return table, list(needs)
