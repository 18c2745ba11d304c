"""The rungs at which trials are compared."""

from __future__ import annotations

GRACE_S = 60.0  # seconds at the first rung, where a search does not say
MAX_RUNGS_S = 12  # rungs in seconds have no end: this many, each `reduction_factor` times the one before


def milestones(grace: float, factor: float, top: float) -> list[float]:
    """Return grace, grace x factor, ... below top. At full training nothing is left to decide."""
    found = []
    at = grace
    while at < top * (1 - 1e-9):
        found.append(at)
        at *= factor
    return found


def milestones_s(grace_s: float | None, factor: float) -> list[float]:
    """Return the rungs in seconds. grace_s: the first one, None or 0 takes GRACE_S."""
    return [float(grace_s or GRACE_S) * factor**power for power in range(MAX_RUNGS_S)]
