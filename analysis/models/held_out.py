"""Held-out gain of a choice of models over the best one alone.

The validation split is halved. One half chooses and the other judges, then the other way round. This is repeated with
other halves. A choice that is judged where it was made looks better than it is, and the more candidates there were, the
more so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.stratify import stratified_val, stratified_val_multilabel
from trainables.data.stratify_groups import stratified_groups

SPLITS = 5  # each gives two estimates: each half chooses once
FEWEST_IMAGES = 8
FEWEST_GROUPS = 8  # of fewer, one half would often consist of a single group

Scores = tuple[float, float]  # on the images that judge: of the choice, and of the best alone
Choice = Callable[[np.ndarray, np.ndarray], Scores | None]


class OutOfTime(Exception):
    """Raised by a choice whose time is over."""


@dataclass(frozen=True)
class HeldOut:
    """Result of `judge`.

    chosen, single  mean scores on halves that did not choose
    gain            their difference, positive is better
    error           standard error of the gain
    estimates       number of halves that judged
    """

    chosen: float
    single: float
    gain: float
    error: float
    estimates: int


def halves(targets: np.ndarray, groups: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the positions of two disjoint halves with equal shares of every class, drawn SPLITS times.

    targets  of the images, as in `Dataset`
    groups   (N,) int of the images, or None. Equal ones share a half, as far as there are enough of them
    """
    if groups is not None and len(np.unique(groups)) < FEWEST_GROUPS:
        groups = None
    found = []
    for seed in range(SPLITS):
        if groups is not None:
            in_second = stratified_groups(targets, groups, 0.5, seed)
        elif targets.ndim == 2:  # tags, or how many pixels of each class
            in_second = stratified_val_multilabel((targets > 0).astype(np.uint8), 0.5, seed)
        else:
            in_second = stratified_val(targets, 0.5, seed)
        found.append((np.flatnonzero(~in_second), np.flatnonzero(in_second)))
    return found


def judge(pairs: Sequence[tuple[np.ndarray, np.ndarray]], choose: Choice, sign: int) -> HeldOut | None:
    """Judge a choice by halves of the images. Returns None if no pair could be judged.

    pairs   of disjoint halves
    choose  (images that choose, images that judge) -> scores, or None where a half has no score, as without a rare
            class; if it raises OutOfTime, the pairs so far are used
    sign    1 where more is better, -1 where less is
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
    # The halves of a round share no image, so half their difference has the deviation of their mean. Rounds share all
    # images, so more of them make this estimate steadier but not smaller.
    error = float(np.sqrt(np.mean(((gains[:, 0] - gains[:, 1]) / 2) ** 2)))
    chosen, single = values.mean(axis=(0, 1))
    return HeldOut(float(chosen), float(single), float(gains.mean()), error, gains.size)
