"""Which of two trials is better, as far as the search tells: the order by which values are compared.

A trial that was ended early cannot be compared with one that trained to its end by their scores. But it was ended
because it lost: it ranks below all that passed the rung at which it was ended. Where neither is known to be the better
one, the pair counts half for each (Gehan 1965, for trials that end early in medicine).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

import numpy as np
from numpy.typing import NDArray

from analysis.figures.learning import rungs
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import is_epoch
from visionsweep.run_dir.trials import Trial

MOST_TRIALS = 2000  # the newest: the table of pairs is quadratic
REPEATED = "to the last digit"  # ends the reason of a trial that trained exactly what another one had trained
DIVERGED = -1.0  # below all rungs
ALL_PASSED = math.inf
TIER = 4.0

Pairs = NDArray[np.int8]


@dataclass(frozen=True)
class Place:
    """Where a trial came to.

    best    its best score, higher is better, minus infinity without one
    level   the rungs that it reached, ALL_PASSED at its end, DIVERGED if it diverged
    judged  whether it was ever compared at a rung, which a training of a single epoch is not
    tier    of the cost of its epochs, where only trials of one tier are compared, else 0
    """

    best: float
    level: float
    judged: bool
    tier: int = 0


def comparable(run: Run) -> list[Trial]:
    """Return the trials whose end says something: complete, pruned or diverged.

    What failed, ran out of memory, was interrupted or still runs says nothing yet. A trial that was ended because it
    repeated another one is that trial.
    """
    told = [
        trial
        for trial in run.trials
        if (trial.status in ("complete", "pruned") and trial.values(run.metric) and not _repeats(trial))
        or trial.status == "diverged"
    ]
    return told[-MOST_TRIALS:]


def pairs(run: Run, trials: list[Trial]) -> Pairs:
    """Return (N, N): 1 where the row's trial is better than the column's, -1 where it is worse, 0 where unknown."""
    places = [place(run, trial) for trial in trials]
    best = np.array([one.best for one in places], dtype=float)
    level = np.array([one.level for one in places], dtype=float)
    judged = np.array([one.judged for one in places], dtype=bool)
    by_score = _signs(best)
    by_level = _signs(level)
    found = np.where(by_level == 0, by_score, by_level)
    # One of a single epoch was compared at no rung, and with tiers those of another tier were no measure. A trial that
    # was ended is better than them where its score is higher already. What else it would have become is unknown.
    ended = (level >= 0) & (level < ALL_PASSED)
    whole = level == ALL_PASSED
    tiers = np.array([one.tier for one in places])
    strangers = (tiers[:, None] != tiers[None, :]) | (~judged)[:, None] | (~judged)[None, :]
    found = np.where(strangers & whole[:, None] & ended[None, :], np.minimum(by_score, 0), found)
    found = np.where(strangers & ended[:, None] & whole[None, :], np.maximum(by_score, 0), found)
    found = np.where(strangers & ended[:, None] & ended[None, :], 0, found)
    return found.astype(np.int8)


def place(run: Run, trial: Trial) -> Place:
    """Return where one trial came to."""
    if trial.status == "diverged":
        return Place(-math.inf, DIVERGED, judged=True)
    best = trial.best(run.metric, run.mode)
    score = -math.inf if best is None else run.sign * best[0]
    at, unit = rungs(run)
    length = _length(run, trial)
    # Rungs are at a share of a trial's own length (`launch/pruners/pruning.py`), or at its seconds.
    reached = float(max((row["epoch"] for row in trial.curve), default=0)) * run.full_epochs / length
    if unit == "seconds":
        reached = max(accumulate(float(row["seconds"]) for row in trial.curve), default=0.0)
    judged = reached >= at[0] if unit == "seconds" and at else length > 1
    tier = _tier(trial) if run.search["search"].get("rungs") == "tiers" else 0
    if trial.status == "complete":
        return Place(score, ALL_PASSED, judged, tier)
    # A pruner without rungs ends trials at any epoch: further is better.
    level = float(bisect_right(at, reached * (1 + 1e-9))) if at else reached
    return Place(score, level, judged=True, tier=tier)


def standings(found: Pairs) -> NDArray[np.float64]:
    """Return for each trial the share of the others that it beats, ties counted half."""
    others = max(1, len(found) - 1)
    shares: NDArray[np.float64] = (found.sum(axis=1, dtype=np.int64) / others + 1) / 2
    return shares


def _signs(values: NDArray[np.float64]) -> Pairs:
    """Return the sign of each row's value less each column's; infinite values are equal to themselves."""
    more = values[:, None] > values[None, :]
    less = values[:, None] < values[None, :]
    return more.astype(np.int8) - less.astype(np.int8)


def _tier(trial: Trial) -> int:
    """Return the tier of the cost of its epochs, as the pruner reckons it (`launch/pruners/pruning.py`)."""
    seconds = [float(row["seconds"]) for row in trial.curve]
    return round(math.log(max(median(seconds), 1e-3)) / math.log(TIER)) if seconds else 0


def _repeats(trial: Trial) -> bool:
    return trial.status == "pruned" and trial.reason.endswith(REPEATED)


def _length(run: Run, trial: Trial) -> int:
    epochs = trial.config.get("epochs")
    return epochs if isinstance(epochs, int) and is_epoch(epochs) else run.full_epochs
