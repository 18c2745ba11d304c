"""The three ways in which a table names an image's classes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.csv_columns import SPECIAL, is_flag_of_a_split, offered
from trainables.data.csv_read import Row
from trainables.data.csv_separators import (
    IN_ONE_LABEL,
    SEPARATOR,
    SURE,
    guessed,
    named,
    parts_of,
    recombined,
    shown,
    undecided,
)
from trainables.data.read_as import ReadAs
from trainables.data.scan import class_order
from visionsweep.core.errors import DataError
from visionsweep.core.names import did_you_mean
from visionsweep.core.words import counted, quoted

# pandas writes a column with gaps as floats, and get_dummies gives truth values.
ZERO_ONE = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "False": 0, "True": 1, "FALSE": 0, "TRUE": 1, "false": 0, "true": 1}
# What pandas reads as a missing value, and so what a column that once had gaps may hold as text.
MISSING = (
    "nan", "NaN", "NAN", "-nan", "-NaN", "None", "NULL", "null", "Null", "N/A", "n/a", "NA", "<NA>", "#N/A", "#NA",
    "#N/A N/A", "NaT", "1.#QNAN", "-1.#QNAN", "1.#IND", "-1.#IND",
)  # fmt: skip
_NUMBER = re.compile(r"[+-]?\d+(\.0*)?")


@dataclass(frozen=True, eq=False)
class Labels:
    """C classes, and targets of N rows: (N,) int64 or (N, C) uint8. notes: what was assumed."""

    classes: tuple[str, ...]
    targets: np.ndarray
    notes: tuple[str, ...]


def labels_by_columns(spec: str, columns: list[str], read_as: ReadAs) -> Callable[[Sequence[Row]], Labels]:
    """The reader of the way that this header means."""
    others = [name for name in columns if name not in SPECIAL]
    ways = [name for name in ("label", "labels") if name in columns]
    if len(ways) == 2:
        raise DataError(f"{spec}, line 1: columns 'label' and 'labels' exclude each other. Remove one.")
    if ways and others:
        offer = "" if "split" in columns else offered(others[:1], ["split"])
        if is_flag_of_a_split(others[0]):
            offer = "Write a column `split` with train, val and test instead."
        raise DataError(
            f"{spec}, line 1: unknown column '{others[0]}' beside '{ways[0]}'. "
            + (f"{offer} Otherwise remove it." if offer else f"{did_you_mean(others[0], SPECIAL)} Rename or remove it.")
            + ("" if offer else f" If it says what belongs together, pass --group {shlex.quote(others[0])}.")
        )
    if ways == ["label"]:
        return lambda rows: _one_label(spec, rows)
    if ways:
        return lambda rows: _separated(spec, rows, read_as.label_separator)
    if len(others) < (2 if read_as.for_training else 1):
        offer = offered(others, ["label", "labels"])
        raise DataError(
            f"{spec}, line 1: no column 'label' or 'labels', and {len(others)} columns that could be classes "
            f"({quoted(others) or 'none'}); it takes at least two.{' ' if offer else ''}{offer} "
            "For a yes-or-no question, write a `label` column."
        )
    return lambda rows: _zero_one(spec, rows, others, "split" in columns)


def _one_label(spec: str, rows: Sequence[Row]) -> Labels:
    """Read `label`: one class per image."""
    labels = [row.cells["label"] for row in rows]
    missing = [row for row in rows if row.cells["label"] in ("", *MISSING)]
    if missing:
        label = missing[0].cells["label"]
        more = len(missing) - 1
        also = f" (and in {counted(more, 'more row')})" if more else ""
        raise DataError(
            f"{spec}, line {missing[0].line}: the label is empty{also}. Name a class, or remove the row."
            if not label
            else f"{spec}, line {missing[0].line}: the label is '{label}', which stands for a missing one{also}. "
            "Name a class, or remove the row. A class that is called so needs another name, such as 'nothing'."
        )
    several = next((("|", label) for label in labels if "|" in label), None) or recombined(labels, IN_ONE_LABEL)
    if several:
        between, label = several
        line = next(row.line for row in rows if row.cells["label"] == label)
        option = "" if between == SEPARATOR else f" and pass --label-separator '{between}'"
        raise DataError(
            f"{spec}, line {line}: `label` is one class, but '{shown(label)}' looks like several with '{between}' "
            f"between them. Call the column `labels`{option}, or name the class without '{between}'."
        )
    plain, notes = _whole_numbers(labels)
    labels = [plain.get(label, label) for label in labels]
    classes = class_order(labels)
    position = {name: i for i, name in enumerate(classes)}
    targets = np.array([position[label] for label in labels], dtype=np.int64)
    return Labels(classes, targets, (*notes, *_alike(classes)))


def _separated(spec: str, rows: Sequence[Row], separator: str | None) -> Labels:
    """Read `labels`: any number of classes with a separator between them. An empty cell means none."""
    # Refuse lists: their brackets and quotes would become parts of names.
    cells = [row.cells["labels"] for row in rows]
    line_of = {cell: row.line for row, cell in zip(reversed(rows), reversed(cells), strict=True)}
    listed = next((cell for cell in cells if re.fullmatch(r"\[.*\]|\{.*\}|\(.*,.*\)", cell)), None)
    if listed is not None and separator != SEPARATOR:
        raise DataError(
            f"{spec}, line {line_of[listed]}: the cell holds a list, '{shown(listed)}'. Write its tags as 'cat|dog', "
            "without brackets and quotes."
        )
    notes = []
    # Settle the separator: the option's, or '|'. If no cell holds '|', a likely other one is refused with the option
    # to pass: it may be part of a name.
    between = SEPARATOR if separator is None else separator.replace("\\t", "\t")  # as a shell passes '\t' on
    if separator is None and not any(SEPARATOR in cell for cell in cells):
        known = [cell for cell in cells if cell not in MISSING]
        _no_other_separator(spec, known, line_of)
        if (whole := undecided(known)) is not None:
            notes.append(
                f"Labels with {named(whole[0])} are one label each, such as '{shown(whole[1])}' "
                f"(--label-separator '{whole[0]}' would part them)."
            )
    elif between != SEPARATOR and not any(len(parts_of(cell, between)) > 1 for cell in cells):
        notes.append(f"No cell of `labels` holds the separator {named(between)}: each is one label.")
    # Note a second separator, which is then part of a name.
    others = [other for other in (SEPARATOR, *SURE) if other not in between]
    mixed = next(((cell, other) for cell in cells for other in others if other in cell), None)
    if mixed is not None:
        cell, other = mixed
        notes.append(
            f"Labels are separated by {named(between)} alone: {named(other)} in '{shown(cell)}' "
            f"(line {line_of[cell]}) is part of a name."
        )

    # Divide the cells, and drop missing values as pandas writes them.
    found = [parts_of(cell, between) for cell in cells]
    missing = [part for parts in found for part in parts if part in MISSING]
    if missing:
        notes.append(f"{counted(len(missing), 'label')} called {quoted(sorted(set(missing)))} left out, as missing.")
    plain, numbers = _whole_numbers([part for parts in found for part in parts if part not in MISSING])
    labels = [{plain.get(part, part) for part in parts if part not in MISSING} for parts in found]
    classes = class_order(label for row in labels for label in row)
    targets = np.array([[name in row for name in classes] for row in labels], dtype=np.uint8)
    targets = targets.reshape(len(labels), len(classes))
    return Labels(classes, targets, (*notes, *numbers, *_alike(classes), *_one_each(targets)))


def _no_other_separator(spec: str, cells: Sequence[str], line_of: dict[str, int]) -> None:
    guess = guessed(cells)
    if guess is None:
        return
    separator, cell = guess
    raise DataError(
        f"{spec}, line {line_of[cell]}: no cell of `labels` holds '|', but '{shown(cell)}' holds {named(separator)}. "
        f"If it separates labels, pass --label-separator '{shown(separator)}', or write '|' instead. "
        "If it is part of a name, pass --label-separator '|'."
    )


def _zero_one(spec: str, rows: Sequence[Row], columns: Sequence[str], has_split: bool) -> Labels:
    """Read one column per class, in the table's order: 1 where the image has it, 0 where not."""
    for row in rows:
        wrong = next((name for name in columns if row.cells[name] not in ZERO_ONE), None)
        if wrong is not None:
            guess = did_you_mean(wrong, SPECIAL)
            near = guess if guess.startswith("Did") else ""  # a misspelt 'split' looks like a class of its own
            hint = offered([wrong], ["label", "labels", *([] if has_split else ["split"])]) or near
            raise DataError(
                f"{spec}, line {row.line}: column '{wrong}' holds '{shown(row.cells[wrong])}', "
                f"which is neither 0 nor 1.{' ' if hint else ''}{hint} "
                "Every column but image and split is a class. Fix the cell, or rename or remove the column."
            )
    flag = next(filter(is_flag_of_a_split, columns), None)
    if flag is not None and not has_split:
        raise DataError(
            f"{spec}, line 1: column '{flag}' looks like a split, and would be a class. "
            "Write a column `split` with train, val and test instead, or rename the class."
        )
    targets = np.array([[ZERO_ONE[row.cells[name]] for name in columns] for row in rows], dtype=np.uint8)
    return Labels(tuple(columns), targets, (*_alike(columns), *_one_each(targets)))


def _whole_numbers(labels: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Map '1.0' to '1' and so on if every label is a whole number, and return a note about it.

    pandas writes integers that way in a column with gaps.
    """
    names = set(labels)
    plain = {name: name.partition(".")[0] for name in names if "." in name}
    if not plain or not all(_NUMBER.fullmatch(name) for name in names):
        return {}, []
    first = min(plain, key=lambda name: (float(name), name))
    return plain, [f"Labels are whole numbers: '{first}' is taken as '{plain[first]}'."]


def _alike(classes: Sequence[str]) -> list[str]:
    """Return notes about classes whose names differ only in how a number is written, or in '_' and '-' for a blank."""
    spellings: dict[str, list[str]] = {}
    for name in classes:
        spellings.setdefault(_plain(name), []).append(name)
    return [
        f"{quoted(list(map(shown, names)))} are different classes, though they may mean the same."
        for names in spellings.values()
        if len(names) > 1
    ]


def _plain(name: str) -> str:
    try:
        return repr(float(name))
    except ValueError:
        return re.sub(r"[_-]", " ", "".join(filter(str.isprintable, name)))


def _one_each(targets: np.ndarray) -> list[str]:
    if len(targets) < 2 or not (targets.sum(axis=1) == 1).all():
        return []
    return ["Each image has exactly one label. Write a column `label` if no image can have several."]
