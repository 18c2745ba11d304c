"""Non-dominated fronts: which of several trade-offs are worth having."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fronts(points: Sequence[Sequence[float]]) -> NDArray[np.int_]:
    """Return the non-dominated rank (n,) of points (n, m), higher is better.

    Rank 1 is the Pareto front: no point is at least as good in every objective and better in one. Rank 2 is the front
    of the points that remain without rank 1, and so on. Equal points share a rank.

    Source: efficient non-dominated sorting with binary search (Zhang et al. 2015). Only a point before it in descending
    lexicographic order can dominate a point.
    """
    values = np.asarray(points, dtype=np.float64)
    found = np.zeros(len(values), dtype=np.int_)
    members: list[list[int]] = []
    for index in np.lexsort(-values.T[::-1]) if len(values) else ():
        low = 0
        high = len(members)
        while low < high:
            middle = (low + high) // 2
            others = values[members[middle]]
            dominated = ((others >= values[index]).all(axis=1) & (others > values[index]).any(axis=1)).any()
            low, high = (middle + 1, high) if dominated else (low, middle)
        if low == len(members):
            members.append([])
        members[low].append(int(index))
        found[index] = low + 1
    return found
