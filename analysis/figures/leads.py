"""Leads of one trial over another on the same images: is it more than luck?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.figures.best_trial import Judged
from analysis.figures.resampled import Kept, resampled, score
from visionsweep.run_dir.run import Run

CLEAR = 0.05  # a lead whose p-value is below this is not chance


@dataclass(frozen=True)
class Lead:
    """The best trial beside another one, on the same images.

    gain                     the best one's score less the other's, negative where a lower score is better
    only_first, only_second  how many images only one of them gets right; None where the metric is no share of images
    p_value                  of the exact McNemar test (McNemar 1947): the chance of so uneven a split if the two were
                             equally good; by another metric than accuracy, from differences on resampled images
    """

    over: str
    gain: float
    only_first: int | None
    only_second: int | None
    p_value: float
    is_ahead: bool

    @property
    def is_clear(self) -> bool:
        return self.p_value < CLEAR and self.is_ahead

    def in_short(self) -> str:
        """Return a sentence that fits a line of the terminal: whether the lead is more than luck."""
        if self.only_first is not None and self.only_first == self.only_second:
            return f"It leads trial {self.over} by nothing."
        clear = "clear" if self.is_clear else "not clear"
        counts = f"{self.gain:+.2g}" if self.only_first is None else f"{self.only_first} images to {self.only_second}"
        return f"Its lead over trial {self.over} is {clear}: {counts}, p = {self.p_value:.2g}."


def right(one: Judged) -> NDArray[np.bool_]:
    """Return (N,) bool: the images whose classes it decides as they are."""
    return np.asarray((one.truth == one.decided).all(axis=1))


def wilson(num_right: int, num_images: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson 1927)."""
    from scipy.stats import binomtest  # half a second, for which other commands need not wait

    ci = binomtest(num_right, num_images).proportion_ci(method="wilson")
    return float(ci.low), float(ci.high)


def by_mcnemar(own: Judged, other: Judged) -> Lead:
    """Return the lead of one trial over another where an image is right or wrong."""
    from scipy.stats import binomtest

    own_right = right(own)
    other_right = right(other)
    only_first = int((own_right & ~other_right).sum())
    only_second = int((other_right & ~own_right).sum())
    num = only_first + only_second
    p_value = float(binomtest(only_first, num).pvalue) if num else 1.0
    gain = (only_first - only_second) / len(own_right)
    return Lead(other.trial.trial_id, gain, only_first, only_second, p_value, is_ahead=only_first > only_second)


def by_resampling(run: Run, task: str, those: Sequence[Kept]) -> tuple[float | None, float | None, list[Lead]]:
    """Return the interval of the first trial, and its leads over the others, on the same resampled images."""
    drawn = resampled(those, task, run.metric)
    drawn = None if drawn is None else drawn[np.isfinite(drawn).all(axis=1)]  # some draws lack a class
    if drawn is None or not len(drawn):
        return None, None, []
    low, high = np.percentile(drawn[:, 0], (2.5, 97.5))
    own = score(those[0], task, run.metric) or 0.0
    leads = []
    for column, other in enumerate(those[1:], start=1):
        gain = own - (score(other, task, run.metric) or 0.0)
        differences = run.sign * (drawn[:, 0] - drawn[:, column])
        # Draws without a difference speak for neither.
        below = float((differences < 0).mean() + (differences == 0).mean() / 2)
        p_value = min(1.0, 2 * min(below, 1 - below) + 1 / len(differences))
        leads.append(Lead(other.trial.trial_id, gain, None, None, p_value, is_ahead=run.sign * gain > 0))
    return float(low), float(high), leads
