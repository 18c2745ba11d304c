"""Judge a method on the test rows of a set, and print the table of all methods (see `minutes.py`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from sklearn.metrics import average_precision_score

from benchmarks.minutes_sets import VOID, Labelled

Record: TypeAlias = dict[str, Any]  # one line of the file of results

RESAMPLES = 200  # of the test rows, for the standard error of what is no mean over them
REFERENCES = ("probe", "hand", "stock")
METHODS = ("ours", *REFERENCES)


@dataclass(frozen=True)
class Judged:
    """A method's error: 1 - accuracy, 1 - mean average precision over tags, or 1 - mean IoU over classes."""

    error: float
    standard_error: float


def judge_scores(data: Labelled, scores: np.ndarray) -> Judged:
    """Judge scores (N, K) of the test rows, one column for each of the set's classes.

    The highest is the class. With several labels they rank photos by tag.
    """
    if data.task == "multilabel":
        targets = data.targets(data.test)
        return _resampled(len(targets), lambda rows: mean_average_precision(targets[rows], scores[rows]))
    number = {name: i for i, name in enumerate(data.classes)}
    # A class without training rows cannot be known, so its photos count as mistakes.
    truth = np.array([number.get(one.tags[0], -1) for one in data.test])
    wrong = float((scores.argmax(axis=1) != truth).mean())
    return Judged(wrong, math.sqrt(wrong * (1 - wrong) / len(truth)))


def judge_masks(data: Labelled, masks: Iterable[np.ndarray]) -> Judged:
    """Judge masks, (H, W) class numbers of the test rows in turn, at the size of their own masks."""
    num = len(data.classes)
    counts = np.zeros((len(data.test), num, num), np.int64)  # [photo, truth, prediction] -> pixels
    for row, (one, mask) in enumerate(zip(data.test, masks, strict=True)):
        truth = read_mask(data, one.mask)
        known = truth != VOID
        both = truth[known].astype(np.int64) * num + mask[known]
        counts[row] = np.bincount(both, minlength=num * num).reshape(num, num)
    return _resampled(len(counts), lambda rows: mean_iou(counts[rows].sum(axis=0)))


def read_mask(data: Labelled, file: object) -> np.ndarray:
    """Read a mask's file as (H, W) uint8 class numbers. Values beyond the codes, and unknown pixels, are VOID."""
    table = np.full(256, VOID, np.uint8)
    table[: len(data.codes)] = data.codes
    with Image.open(str(file)) as image:
        return np.asarray(table[np.asarray(image)])


def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> float:
    """Return the macro mean over the tags that occur. targets: (N, K) of 0 and 1. scores: (N, K)."""
    there = np.flatnonzero(targets.any(axis=0))
    return float(np.mean([average_precision_score(targets[:, tag], scores[:, tag]) for tag in there]))


def mean_iou(confusion: np.ndarray) -> float:
    """Macro mean over the classes that the truth holds. confusion: (C, C) pixels, truth by prediction."""
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    there = confusion.sum(axis=1) > 0
    return float((hits[there] / union[there]).mean())


def _resampled(num: int, score: Any) -> Judged:
    """Return 1 - score of all rows, and its deviation over rows drawn with replacement (the bootstrap, Efron 1979)."""
    rng = np.random.default_rng(0)
    drawn = [score(rng.integers(num, size=num)) for _ in range(RESAMPLES)]
    return Judged(1 - score(np.arange(num)), stdev(drawn))


@dataclass(frozen=True)
class Cell:
    """A method on a set: the mean over its seeds. first_model_s: None where no trial ended, or none was searched."""

    error: float
    standard_error: float
    num_test: int
    wall_s: float
    first_model_s: float | None

    @property
    def floor(self) -> float:
        """The error, but at least half a photo: ratios to nothing at all would say nothing."""
        return max(self.error, 0.5 / self.num_test)


def cell(records: Sequence[Record]) -> Cell:
    """The seeds share their test rows, so that only what differs between them shrinks with their number."""
    errors = [record["error"] for record in records]
    between = stdev(errors) ** 2 / len(errors) if len(errors) > 1 else 0.0
    within = mean(record["standard_error"] for record in records) ** 2
    first = [record["first_model_s"] for record in records if record.get("first_model_s") is not None]
    return Cell(
        mean(errors),
        math.sqrt(within + between),
        records[0]["num_test"],
        mean([record["wall_s"] for record in records if record["wall_s"] is not None] or [math.nan]),
        mean(first) if len(first) == len(records) else None,
    )


def table(records: Sequence[Record], budget_s: float) -> str:
    """Return the errors of every method on every set at a budget, with geometric means of ratios to the best reference.

    The references are the methods of REFERENCES. Sets with masks have means of their own.
    """
    mine = [record for record in records if record["budget_s"] in (budget_s, None)]
    names = list(dict.fromkeys(record["set"] for record in mine))
    rows = {name: cells_of([record for record in mine if record["set"] == name]) for name in names}
    said = [f"{'error at ' + f'{budget_s:g} s':20}" + "".join(f"{method:>16}" for method in METHODS)]
    said[0] += f"{'ours/best':>11}{'first model':>13}{'wall-clock':>12}"
    said += [_row(name, cells) for name, cells in rows.items()]
    masks = {record["set"] for record in mine if record["task"] == "segmentation"}
    for kind, there in (("photos", False), ("masks", True)):
        said += means(kind, [cells for name, cells in rows.items() if (name in masks) == there])
    return "\n".join(said)


def cells_of(records: Sequence[Record]) -> dict[str, Cell]:
    """Return the mean of each method that has records of a set."""
    by_method = {method: [record for record in records if record["method"] == method] for method in METHODS}
    return {method: cell(found) for method, found in by_method.items() if found}


def _row(name: str, cells: dict[str, Cell]) -> str:
    errors = [
        f"{cells[method].error:.3f} ± {cells[method].standard_error:.3f}" if method in cells else ""
        for method in METHODS
    ]
    ours = cells.get("ours")
    best = _best(cells)
    ratio = f"{ours.floor / best:.2f}" if ours and best else ""
    if ours and "probe" in cells and ours.error > cells["probe"].error + 2 * _se_of_difference(ours, cells["probe"]):
        ratio += " !"
    first = f"{ours.first_model_s:.0f} s" if ours and ours.first_model_s is not None else ""
    wall = f"{ours.wall_s:.0f} s" if ours else ""
    return f"{name:20}" + "".join(f"{one:>16}" for one in errors) + f"{ratio:>11}{first:>13}{wall:>12}"


def means(kind: str, rows: Sequence[dict[str, Cell]]) -> list[str]:
    """A line for every method that was run on a set which has a reference."""
    lines = []
    for method in METHODS:
        ratios = [cells[method].floor / best for cells in rows if method in cells and (best := _best(cells))]
        if ratios:
            logs = [math.log(ratio) for ratio in ratios]
            deviation = stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else 0.0
            middle = math.exp(mean(logs))
            lines.append(
                f"{kind}: {method} is at {middle:.2f} ± {middle * deviation:.2f} of the best reference's error "
                f"(geometric mean, {len(ratios)} sets)"
            )
    return lines


def _best(cells: dict[str, Cell]) -> float | None:
    return min((cells[method].floor for method in REFERENCES if method in cells), default=None)


def _se_of_difference(one: Cell, other: Cell) -> float:
    """Return the standard error of a difference on independent rows.

    Both are judged on the same rows, which makes the true one smaller.
    """
    return math.hypot(one.standard_error, other.standard_error)
