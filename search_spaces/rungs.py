"""Where trials are compared with each other."""

from __future__ import annotations


def milestones(grace: float, factor: float, top: float) -> list[float]:
    """grace, grace x factor, ... below top: at full training there is nothing left to decide."""
    found, at = [], grace
    while at < top * (1 - 1e-9):
        found.append(at)
        at *= factor
    return found
