"""The three ways in which a table names an image's classes."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from search_spaces.errors import DataError
from search_spaces.names import did_you_mean
from trainables.data.scan import class_order
from trainables.data.words import quoted

SPECIAL = ("image", "label", "labels", "split")
ZERO_ONE = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}  # pandas writes a column with gaps as floats
SEPARATOR = "|"


class Labels(Protocol):
    """Takes the rows' cells one by one and ends as classes and targets."""

    def add(self, line: int, cells: dict[str, str]) -> None:
        """One image's cells; a DataError names the line where they are wrong."""

    def finish(self) -> tuple[tuple[str, ...], np.ndarray]:
        """C classes, and targets: (N,) int64 or (N, C) uint8."""


def labels_by_columns(spec: str, columns: list[str]) -> Labels:
    """Which of the three ways this header means."""
    others = [name for name in columns if name not in SPECIAL]
    ways = [name for name in ("label", "labels") if name in columns]
    if len(ways) == 2:
        raise DataError(f"{spec}, line 1: columns 'label' and 'labels' exclude each other. Remove one.")
    if ways and others:
        raise DataError(
            f"{spec}, line 1: unknown column '{others[0]}' beside '{ways[0]}'. {did_you_mean(others[0], SPECIAL)} "
            "Rename or remove it."
        )
    if ways:
        return OneLabel(spec) if ways == ["label"] else SeparatedLabels(spec)
    if len(others) < 2:
        raise DataError(
            f"{spec}, line 1: no column 'label' or 'labels', and {len(others)} columns that could be classes "
            f"({quoted(others) or 'none'}); it takes at least two. For a yes-or-no question, write a `label` column."
        )
    return ZeroOneColumns(spec, others)


class OneLabel:
    """`label`: one class."""

    def __init__(self, spec: str) -> None:
        self.spec, self.labels = spec, list[str]()

    def add(self, line: int, cells: dict[str, str]) -> None:
        if not cells["label"]:
            raise DataError(f"{self.spec}, line {line}: the label is empty. Name a class, or remove the row.")
        self.labels.append(cells["label"])

    def finish(self) -> tuple[tuple[str, ...], np.ndarray]:
        classes = class_order(self.labels)
        position = {name: i for i, name in enumerate(classes)}
        return classes, np.array([position[label] for label in self.labels], dtype=np.int64)


class SeparatedLabels:
    """`labels`: any number of classes with '|' between them; an empty cell means none."""

    def __init__(self, spec: str) -> None:
        self.spec, self.labels = spec, list[set[str]]()

    def add(self, line: int, cells: dict[str, str]) -> None:
        self.labels.append({label.strip() for label in cells["labels"].split(SEPARATOR)} - {""})

    def finish(self) -> tuple[tuple[str, ...], np.ndarray]:
        classes = class_order(label for row in self.labels for label in row)
        targets = np.array([[name in row for name in classes] for row in self.labels], dtype=np.uint8)
        return classes, targets.reshape(len(self.labels), len(classes))


class ZeroOneColumns:
    """One column per class, in the table's order: 1 where the image has it, 0 where not."""

    def __init__(self, spec: str, columns: list[str]) -> None:
        self.spec, self.columns, self.rows = spec, columns, list[list[int]]()

    def add(self, line: int, cells: dict[str, str]) -> None:
        wrong = [name for name in self.columns if cells[name] not in ZERO_ONE]
        if wrong:
            guess = did_you_mean(wrong[0], SPECIAL)
            hint = f" {guess}" if guess.startswith("Did") else ""  # a misspelt 'split' looks like a class of its own
            raise DataError(
                f"{self.spec}, line {line}: column '{wrong[0]}' holds '{cells[wrong[0]]}', which is neither 0 nor 1."
                f"{hint} Every column but image and split is a class. Fix the cell, or rename or remove the column."
            )
        self.rows.append([ZERO_ONE[cells[name]] for name in self.columns])

    def finish(self) -> tuple[tuple[str, ...], np.ndarray]:
        return tuple(self.columns), np.array(self.rows, dtype=np.uint8)
