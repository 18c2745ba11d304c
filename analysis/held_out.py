"""What a choice of models gains over the best one alone, on images that did not choose.

The validation split is halved. One half chooses, the other judges, then the other way round; then it is halved anew.
A choice that is judged where it was made looks better than it is, and the more so, the more there was to choose from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.stratify import stratified_val, stratified_val_multilabel

SPLITS = 5  # each gives two estimates: either half selects once
FEWEST_IMAGES = 8

Scores = tuple[float, float]  # on the images that judge: of what was chosen, and of the best alone
Choice = Callable[[np.ndarray, np.ndarray], Scores | None]


class OutOfTime(Exception):
    """Raised by a choice that may not go on."""


@dataclass(frozen=True)
class HeldOut:
    """chosen, single: mean scores on halves that did not choose. gain: their difference, positive is better; error: its
    standard error. estimates: halves that judged."""

    chosen: float
    single: float
    gain: float
    error: float
    estimates: int


def halves(targets: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions among images: two disjoint halves that show every class alike, drawn SPLITS times.

    targets: of the images, as `Dataset` has them.
    """
    found = []
    for seed in range(SPLITS):
        if targets.ndim == 2:  # tags, or how many pixels of each class
            in_second = stratified_val_multilabel((targets > 0).astype(np.uint8), 0.5, seed)
        else:
            in_second = stratified_val(targets, 0.5, seed)
        found.append((np.flatnonzero(~in_second), np.flatnonzero(in_second)))
    return found


def judge(pairs: Sequence[tuple[np.ndarray, np.ndarray]], choose: Choice, sign: int) -> HeldOut | None:
    """Judge a choice by halves of the images.

    pairs   of disjoint halves
    choose  (images that choose, images that judge) -> scores; None where a half has no score, as without a rare class.
            Where it raises OutOfTime, the pairs so far are what is known
    sign    1 where more is better, -1 where less is

    Returns None where no pair could be judged.
    """
    rounds: list[list[Scores]] = []
    for first, second in pairs:
        try:
            both = [choose(first, second), choose(second, first)]
        except OutOfTime:
            break
        scores = [one for one in both if one is not None]
        if len(scores) == 2:
            rounds.append(scores)
    if not rounds:
        return None
    values = np.array(rounds)  # (R, 2 halves, 2)
    gains = sign * (values[..., 0] - values[..., 1])  # (R, 2)
    # The halves of a round share no image: half their difference has the deviation of their mean. Rounds share all
    # images, so that more of them make this estimate steadier, and not smaller.
    error = float(np.sqrt(np.mean(((gains[:, 0] - gains[:, 1]) / 2) ** 2)))
    chosen, single = values.mean(axis=(0, 1))
    return HeldOut(float(chosen), float(single), float(gains.mean()), error, gains.size)
