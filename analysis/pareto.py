"""Which of several compromises are worth having: non-dominated fronts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fronts(points: Sequence[Sequence[float]]) -> NDArray[np.int_]:
    """(n,) the front of each point (n, m), higher is better: 1 where nothing is better in one objective and as good in
    all, 2 where that is so once front 1 is taken away, and so on. Equal points share a front.

    Efficient non-dominated sorting with binary search (Zhang et al. 2015): a point can be dominated only by one that
    stands before it in falling lexicographic order.
    """
    values = np.asarray(points, dtype=np.float64)
    found = np.zeros(len(values), dtype=np.int_)
    members: list[list[int]] = []
    for index in np.lexsort(-values.T[::-1]) if len(values) else ():
        low, high = 0, len(members)
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
