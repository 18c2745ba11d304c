"""Trials that are tied with the best: their difference on the same photos may be luck.

By accuracy, McNemar's exact test (1947) counts the photos that only one of the two gets right. By another metric, or
where photos belong together, the difference is divided by its deviation over resampled photos. Tests against all the
others are corrected for their number (Holm 1979).
"""

from __future__ import annotations

import math

import numpy as np

from analysis.expect.candidates import Candidates, candidates, resampled_counts
from analysis.figures.best_trial import Judged
from analysis.figures.chances import holm
from analysis.figures.leads import CLEAR, right
from visionsweep.core.tasks import task_kind
from visionsweep.run_dir.run import Run

MOST_COUNTED = 2000  # photos that one of two gets right: beyond, the binomial is normal


def as_good(run: Run) -> dict[str, bool]:
    """Return by trial whether it is tied with the best, as far as predictions are kept. {} where nobody can say.

    The best trial itself is among them.
    """
    found = candidates(run)
    return {} if found is None else as_good_of(found)


def as_good_of(found: Candidates) -> dict[str, bool]:
    """Return what `as_good` does of trials with their predictions, best first."""
    if found.trials[0].trial_id != found.first:  # the best trial's own are gone
        return {}
    corrected = holm(p_values(found))
    told = {trial.trial_id: p >= CLEAR for trial, p in zip(found.trials[1:], corrected, strict=True)}
    return {found.first: True, **told}


def p_values(found: Candidates) -> list[float]:
    """Return for each trial but the first the chance of such a difference if both were equally good."""
    judged = [one for one in found.said if isinstance(one, Judged)]
    if found.metric == "val/accuracy" and task_kind(found.task).one_label and found.groups is None:
        own, *others = [right(one) for one in judged]
        return [mcnemar(int((own & ~other).sum()), int((other & ~own).sum())) for other in others]
    drawn = found.scores(resampled_counts(found))  # (T, R)
    plain = found.plain()
    values = []
    for number in range(1, len(plain)):
        difference = float(plain[0] - plain[number])
        deviation = float(np.nanstd(drawn[0] - drawn[number]))
        values.append(1.0 if difference == 0 else 0.0 if deviation == 0 else _two_sided(difference / deviation))
    return values


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of the exact test that photos are as often right by one alone as by the other."""
    num = only_first + only_second
    fewer = min(only_first, only_second)
    if num > MOST_COUNTED:
        return _two_sided((num - 2 * fewer - 1) / math.sqrt(num))
    both_tails: float = 2 * sum(math.comb(num, k) for k in range(fewer + 1)) / 2**num
    return min(1.0, both_tails)


def _two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))
