"""The chance that a trial of one group is better than one of another: its interval, and a test against luck."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.figures.order import Pairs

NUM_SHUFFLES = 5000
MOST_SHUFFLED = 200  # trials: beyond, the sum of a shuffled group is normal
Z = 1.959964  # of a 95% interval
GRID = np.linspace(0.0005, 0.9995, 1999)

Mask = NDArray[np.bool_]


def chance(found: Pairs, here: Mask) -> float:
    """Return the share of the pairs of a trial here and one elsewhere that the first wins, ties counted half."""
    across = found[np.ix_(here, ~here)]
    return float((across.mean(dtype=float) + 1) / 2)


def interval(share: float, num_here: int, num_others: int) -> tuple[float, float]:
    """Return the 95% interval of such a chance (Newcombe 2006, Statistics in Medicine 25, 559, method 5).

    It does not shrink to nothing where one group wins all pairs, as a bootstrap of a few trials does.
    """
    more = (num_here + num_others) / 2 - 1
    factor = 1 + more * (1 - GRID) / (2 - GRID) + more * GRID / (1 + GRID)
    deviation = np.sqrt(GRID * (1 - GRID) * factor / (num_here * num_others))
    fitting = GRID[np.abs(GRID - share) <= Z * deviation]
    if not len(fitting):  # between two points of the grid
        return share, share
    return (0.0 if fitting[0] == GRID[0] else float(fitting[0])), (
        1.0 if fitting[-1] == GRID[-1] else float(fitting[-1])
    )


def p_values(found: Pairs, groups: Sequence[Mask]) -> list[float]:
    """Return for each group the p-value of the permutation test that it is no better and no worse than the others.

    The statistic is the number of pairs won less those lost. Which trials are the group's is dealt out anew each time.
    """
    wins = found.sum(axis=1, dtype=np.int64).astype(float)  # pairs inside a group cancel each other
    num = len(wins)
    sizes = [int(group.sum()) for group in groups]
    observed = [abs(float(wins[group].sum())) for group in groups]
    if num > MOST_SHUFFLED:
        variance = float((wins**2).sum()) / (num * max(1, num - 1))
        deviations = [math.sqrt(variance * size * (num - size)) for size in sizes]
        return [
            math.erfc(one / deviation / math.sqrt(2)) if deviation > 0 else 1.0
            for one, deviation in zip(observed, deviations, strict=True)
        ]
    sums = np.abs(np.cumsum(_shuffled(wins), axis=1))  # the first k are a group of k
    return [
        (1 + int((sums[:, size - 1] >= one - 1e-9).sum())) / (1 + NUM_SHUFFLES) if size else 1.0
        for one, size in zip(observed, sizes, strict=True)
    ]


def holm(values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number (Holm 1979)."""
    corrected = [1.0] * len(values)
    highest = 0.0
    for place, number in enumerate(sorted(range(len(values)), key=lambda number: values[number])):
        highest = max(highest, min(1.0, values[number] * (len(values) - place)))
        corrected[number] = highest
    return corrected


def p_value_of_groups(found: Pairs, labels: Sequence[int]) -> float:
    """Return the p-value of the permutation test that none of several groups is better or worse than the others.

    labels: the group of each trial, 0 and up. The statistic is that of Kruskal and Wallis (1952), on pairs won.
    """
    wins = found.sum(axis=1, dtype=np.int64).astype(float)
    groups = np.eye(max(labels) + 1)[list(labels)]  # (N, groups)
    sizes = groups.sum(axis=0)
    kept = sizes > 0
    if kept.sum() < 2 or not wins.any():
        return 1.0
    groups = groups[:, kept] / np.sqrt(sizes[kept])
    observed = float(((wins @ groups) ** 2).sum())
    if len(wins) > MOST_SHUFFLED:
        from scipy.special import chdtrc  # other figures need not wait for it

        variance = float((wins**2).sum()) / (len(wins) - 1)
        return float(chdtrc(int(kept.sum()) - 1, observed / variance))
    tried = ((_shuffled(wins) @ groups) ** 2).sum(axis=1)
    return (1 + int((tried >= observed * (1 - 1e-9)).sum())) / (1 + NUM_SHUFFLES)


def _shuffled(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (NUM_SHUFFLES, N): the trials dealt out anew in each row."""
    rng = np.random.default_rng(0)  # a report made twice says the same
    return rng.permuted(np.tile(wins, (NUM_SHUFFLES, 1)), axis=1)
