"""What the winner of a search scores on new photos: its score, corrected for having been chosen by it.

Photos are resampled with replacement. The drawn ones choose the winner anew, and the others judge it. The mean over the
resamples is free of the luck of having been chosen, and their percentiles are an interval: BBC-CV of Tsamardinos,
Greasidou and Borboudakis 2018, "Bootstrapping the out-of-sample predictions for efficient and accurate
cross-validation" (Machine Learning 107). Nothing is trained again, so hundreds of trials take seconds.

A metric that is no mean over photos, such as F1 and average precision, has another value on the third of the photos
that judge: they lack rare classes. What it differs by for a few trials, whichever won, is taken back.

The choice of an epoch within a trial is not corrected, since a trial keeps predictions of its best epoch alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.expect.candidates import Candidates, candidates
from analysis.figures.resampled import drawn
from visionsweep.core.words import counted
from visionsweep.run_dir.run import Run

MOST_COMPARED = 12  # trials that tell how the metric differs on fewer photos


@dataclass(frozen=True)
class Expected:
    """What to expect of the winner on new photos.

    metric       by which it was chosen
    score        expected on new photos
    low, high    95% interval
    chosen_by    the winner's score on the photos that chose it
    num_trials   trials whose predictions were used
    competing    trials that it was chosen among
    num_images   photos that chose
    """

    metric: str
    score: float
    low: float
    high: float
    chosen_by: float
    num_trials: int
    competing: int
    num_images: int

    def __str__(self) -> str:
        return in_words(self)


def expected_score(run: Run) -> Expected | None:
    """Return what to expect of a run's best trial on new photos: see `expected_of`."""
    found = candidates(run)
    return None if found is None else expected_of(found)


def expected_of(found: Candidates, replicates: int | None = None) -> Expected | None:
    """Return what to expect of the best of several trials, None for fewer than two, or where nothing is defined.

    With folds it is None too where some competing trials did not keep their predictions: those that did are the best.

    replicates: number of resamples, None takes `Candidates.replicates`
    """
    if len(found.trials) < 2 or (found.on_folds and len(found.trials) < found.competing):
        return None
    judged = []
    on_fewer: list[NDArray[np.float64]] = []
    # On ties the earlier trial wins, as in a ranking. The order by rank would know the photos that judge.
    by_age = np.argsort([trial.trial_id for trial in found.trials], kind="stable")
    compared = by_age[np.unique(np.linspace(0, len(by_age) - 1, MOST_COMPARED).astype(int))]
    for counts in drawn(found.num_images, replicates or found.replicates, found.groups):
        every = found.sign * found.scores(counts)[by_age]
        chosen = by_age[np.where(np.isfinite(every), every, -np.inf).argmax(axis=0)]
        left_out = (counts == 0).astype(np.float64)
        for winner in np.unique(chosen):
            rows = (chosen == winner) & left_out.any(axis=1)
            if rows.any():
                judged.append(found.score(int(winner), left_out[rows]))
        if not found.is_mean:
            judging = left_out[left_out.any(axis=1)]
            on_fewer += [found.score(int(number), judging) for number in compared]
    values = np.concatenate(judged) if judged else np.zeros(0)
    plain = found.plain()
    if on_fewer:
        values = values + np.nanmean(plain[compared]) - np.nanmean(np.concatenate(on_fewer))
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, (2.5, 97.5)).clip(0, np.inf if found.metric == "val/loss" else 1)
    best = found.sign * float(np.nanmax(found.sign * plain))
    return Expected(
        found.metric, float(values.mean()), float(low), float(high), best, len(found.trials), found.competing,
        found.num_images,
    )  # fmt: skip


def in_short(one: Expected) -> str:
    """Return a sentence that fits a line of the terminal: what to expect."""
    return f"{_expected(one)}."


def in_words(one: Expected) -> str:
    """Return a sentence: what to expect, and why it is not the score that chose."""
    digits = _digits(one)
    among = f"{one.num_trials} of {one.competing}" if one.num_trials < one.competing else f"{one.num_trials}"
    kept = " that kept their predictions" if one.num_trials < one.competing else ""
    looked = f"{one.chosen_by:.{digits}f}"
    instead = f", not {looked}" if looked != f"{one.score:.{digits}f}" else ""
    return (
        f"{_expected(one)}{instead}: these {counted(one.num_images, 'photo')} chose the best of {among} trials{kept}."
    )


def _expected(one: Expected) -> str:
    digits = _digits(one)
    amount = f"{one.score:.{digits}f} ({one.low:.{digits}f} to {one.high:.{digits}f})"
    return f"On new photos expect {one.metric} of about {amount}"


def _digits(one: Expected) -> int:
    """Return how many digits of a share so many photos support."""
    return 3 if one.num_images >= 1000 else 2
