"""Labels that may be wrong, from probabilities of images that the model has not learned from.

An image is doubted where another class is likelier than the given one. Doubted images are ordered by the probability of
what they are given, beside its mean among the images that are given the same: an uncertain class is not all wrong.

Confident learning says which of them are wrong with confidence: Northcutt, Jiang and Chuang 2021, "Confident learning:
estimating uncertainty in dataset labels" (JAIR 70). A class's threshold is that same mean. An image whose probability
reaches another class's threshold belongs there. As an order, its margin between the two classes found fewer planted
labels (see docs/benchmarks.md).

A tag is a class of its own, given or not. Masks are ordered by how much they disagree with the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.pixels import JudgedMasks
from visionsweep.core.tasks import task_kind

FEWEST = 5  # images with a tag, and without it: of fewer, nothing is learned of the tag
ROUNDING = 1e-9  # of a mean of equal probabilities
SHARE_OF_MASKS = 0.1  # that disagree most

Array = NDArray[np.float64]
Row = tuple[str, str, str, float, bool]
COLUMNS = ["rank", "image", "given", "suggested", "probability", "confident"]
MASK_COLUMNS = ["rank", "image", "class", "iou"]


@dataclass(frozen=True, eq=False)
class Doubts:
    """Labels in the order of doubt, as rows of the images.

    rows       (n,) images, the most doubtful first
    suggested  (n,) class numbers
    trust      (n,) probability of the given class, over its mean among the images that are given it
    confident  (n,) bool, whether an image is as likely of the suggested class as that class's own images
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    trust: Array
    confident: NDArray[np.bool_]


def doubtful_classes(probabilities: Array, given: NDArray[np.int64]) -> Doubts:
    """Return the images of which another class is likelier than the given one.

    probabilities: (N, C). given: (N,) class numbers.
    """
    every = np.arange(len(given))
    own = probabilities[every, given]
    counts = np.bincount(given, minlength=probabilities.shape[1])
    mean = np.bincount(given, weights=own, minlength=len(counts)) / np.maximum(counts, 1)
    reached = (probabilities >= np.where(counts > 0, mean - ROUNDING, np.inf)) & (probabilities > own[:, None])
    confident = np.asarray(reached.any(axis=1))
    there = np.where(counts > 0, probabilities, -1)  # nothing is of a class without images
    suggested = np.where(confident, np.where(reached, probabilities, -1).argmax(axis=1), there.argmax(axis=1))
    trust = own / np.maximum(mean[given], ROUNDING)
    doubtful = np.flatnonzero(probabilities[every, suggested] > own)
    rows = doubtful[np.argsort(trust[doubtful], kind="stable")]
    return Doubts(rows, suggested[rows], trust[rows], confident[rows])


def suspects(
    task: str, classes: Sequence[str], names: Sequence[str], probabilities: Array, truth: NDArray[np.bool_]
) -> pd.DataFrame:
    """Return a row for each label that may be wrong, the most doubtful first.

    probabilities, truth: (N, C), for binary tasks of both classes

    The columns are rank (from 1), image, given, suggested, probability (of what is suggested) and confident (see
    `Doubts`). An image has a row for each tag in doubt, where `given` is the tag, or `not` and the tag.
    """
    if task_kind(task).tags:
        return _tags(classes, names, probabilities, truth)
    found = doubtful_classes(probabilities, truth.argmax(axis=1))
    rows = [
        (names[row], classes[int(truth[row].argmax())], classes[better], float(probabilities[row, better]), sure)
        for row, better, sure in zip(
            found.rows.tolist(), found.suggested.tolist(), found.confident.tolist(), strict=True
        )
    ]
    return _table(rows)


def _tags(classes: Sequence[str], names: Sequence[str], probabilities: Array, truth: NDArray[np.bool_]) -> pd.DataFrame:
    found: list[tuple[float, Row]] = []
    for number, tag in enumerate(classes):
        given = truth[:, number]
        if min(given.sum(), (~given).sum()) < FEWEST:
            continue
        yes = probabilities[:, number]
        doubts = doubtful_classes(np.stack([1 - yes, yes], axis=1), given.astype(np.int64))
        words = (f"not {tag}", tag)
        for place, row in enumerate(doubts.rows.tolist()):
            better = int(doubts.suggested[place])
            likely = float(yes[row] if better else 1 - yes[row])
            of_row = (names[row], words[1 - better], words[better], likely, bool(doubts.confident[place]))
            found.append((float(doubts.trust[place]), of_row))
    found.sort(key=lambda item: item[0])
    return _table([row for _, row in found])


def _table(rows: Sequence[Row]) -> pd.DataFrame:
    return pd.DataFrame([(rank, *row) for rank, row in enumerate(rows, start=1)], columns=COLUMNS)


def mask_suspects(names: Sequence[str], one: JudgedMasks) -> pd.DataFrame:
    """Return the images whose masks disagree most with the model's: a tenth of them, the lowest mean IoU first.

    The columns are rank (from 1), image, class (the one that disagrees most) and iou (the mean of the image's classes).
    """
    right, there, said = (part.astype(np.float64) for part in (one.hits, one.truth, one.decided))
    union = there + said - right
    iou = np.where(union > 0, right / np.maximum(union, 1), np.nan)  # (N, C)
    judged = np.flatnonzero((union > 0).any(axis=1))
    mean = np.nanmean(iou[judged], axis=1)
    order = np.argsort(mean, kind="stable")[: max(1, round(SHARE_OF_MASKS * len(judged)))]
    # Of an image's classes, the one with the most pixels in dispute.
    worst = (union - right)[judged].argmax(axis=1)
    rows = [
        (rank, names[int(judged[row])], one.classes[int(worst[row])], float(mean[row]))
        for rank, row in enumerate(order.tolist(), start=1)
    ]
    return pd.DataFrame(rows, columns=MASK_COLUMNS)
