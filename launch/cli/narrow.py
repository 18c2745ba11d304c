"""Tables on narrow terminals. Columns that a user needs stay whole, the others are left out one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.table import Table

GAP = 2  # between two columns
LEAST_FOLDED = 16  # of the column that wraps; narrower is one word a line


def table_for(
    width: int, columns: Mapping[str, Sequence[str]], *, left: Sequence[str], given_up: Sequence[str], folds: str
) -> tuple[Table, list[str]]:
    """Return a table without rows, and the names of its columns.

    Columns are left out until the others fit into `width`.

        columns   cells of each column, by its header
        left      columns that are justified to the left
        given_up  columns that may be left out, in this order
        folds     the column whose cells wrap
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
