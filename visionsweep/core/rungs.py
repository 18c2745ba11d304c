"""The rungs at which trials are compared."""

from __future__ import annotations


def milestones(grace: float, factor: float, top: float) -> list[float]:
    """Return grace, grace x factor, ... below top. At full training nothing is left to decide."""
    found = []
    at = grace
    while at < top * (1 - 1e-9):
        found.append(at)
        at *= factor
    return found
