"""Find the separator between the tags of a cell, if it is not the documented '|'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

SEPARATOR = "|"
SURE = (",", ";", "\t")  # hardly ever part of a tag's name
PERHAPS = ("/", "+", "&", " ")  # 'traffic light' is one tag, 'clear primary road' are three
RARELY = (":", "-", "_")  # part of many names: they separate only what also occurs alone
MOST_SHOWN = 100  # characters
IN_ONE_LABEL = ("|", ",", ";", "+", "&")


def parts_of(cell: str, separator: str) -> list[str]:
    """Return the tags of a cell. A blank as the separator means any white space."""
    if separator == " ":
        return cell.split()
    return [part for part in (piece.strip() for piece in cell.split(separator)) if part]


def guessed(cells: Sequence[str]) -> tuple[str, str] | None:
    """Return the likely separator in a column of tags without any '|', and the first cell that holds it."""
    for separator in SURE:
        for cell in cells:
            if separator in cell:
                return separator, cell
    return recombined(cells, PERHAPS) or _all_alone(cells)


def recombined(cells: Sequence[str], separators: Sequence[str]) -> tuple[str, str] | None:
    """Return the first separator whose parts recur in other cells, and a cell that holds it, else None.

    Tags recur in other cells, and the words of one name do not.
    """
    values = list(dict.fromkeys(cells))
    for separator in separators:
        parts = {value: set(parts_of(value, separator)) for value in values}
        joined = [value for value in values if len(parts[value]) > 1]
        if not joined:
            continue
        alone = {next(iter(found)) for found in parts.values() if len(found) == 1}
        in_values = Counter(part for found in parts.values() for part in found)
        # 'upper arm', 'lower arm', 'upper leg', 'lower leg' share all their words and are names of one length.
        stands_alone = any(parts[value] & alone for value in joined)
        varied = stands_alone or len({len(parts[value]) for value in joined}) > 1
        if separator in PERHAPS and not varied:
            continue
        shared = [value for value in joined if parts[value] & alone or _mostly(parts[value], in_values, varied)]
        if 2 * len(shared) >= len(joined):
            return separator, shared[0]
    return None


def _all_alone(cells: Sequence[str]) -> tuple[str, str] | None:
    values = list(dict.fromkeys(cells))
    for separator in RARELY:
        joined = [value for value in values if len(parts_of(value, separator)) > 1]
        alone = [value for value in joined if set(parts_of(value, separator)) <= set(values)]
        if alone and 2 * len(alone) >= len(joined):
            return separator, alone[0]
    return None


def _mostly(parts: set[str], in_values: Counter[str], half_is_enough: bool) -> bool:
    """Whether most parts of a value occur in other values too."""
    shared = sum(in_values[part] > 1 for part in parts)
    return 2 * shared > len(parts) or (half_is_enough and 2 * shared == len(parts))


def undecided(cells: Sequence[str]) -> tuple[str, str] | None:
    """Return a separator that could divide a cell, and that cell, if nothing shows that it does."""
    return next(((between, cell) for between in PERHAPS for cell in cells if len(parts_of(cell, between)) > 1), None)


def shown(cell: str) -> str:
    """Return a cell for a message: cut to length, and with invisible characters written out."""
    text = cell if cell.isprintable() else ascii(cell)[1:-1]
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def named(separator: str) -> str:
    """Return the name of a separator for messages."""
    return {" ": "a blank", "\t": "a tab"}.get(separator, f"'{separator}'")
