"""How good the best trial is, as far as its validation images tell: an interval, a baseline, and whether it leads.

For tasks with one class an image. Beside a score stands what chance makes of it on so many images, what always naming
the commonest class would get, and how many images only the best trial, or only the second, gets right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.figures.best_trial import Judged, judged
from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import Run
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.trials import Trial

CLEAR = 0.05  # a lead whose p-value is below this is not chance


@dataclass(frozen=True)
class Lead:
    """The best trial beside the second best: how many images only one of them gets right.

    p_value    of the exact McNemar test (McNemar 1947): the chance of so uneven a split if the two were equally good
    """

    over: str
    only_first: int
    only_second: int
    p_value: float

    @property
    def is_clear(self) -> bool:
        return self.p_value < CLEAR and self.only_first > self.only_second


@dataclass(frozen=True)
class Verdict:
    """The best trial on the validation images.

    low, high        a 95% interval of the share that is right (Wilson 1927)
    commonest, base  the commonest class, and the share that always naming it would get right
    lead             None where no second trial has kept its predictions
    """

    trial_id: str
    num_images: int
    num_right: int
    low: float
    high: float
    commonest: str
    base: float
    lead: Lead | None


def verdict(run: Run) -> Verdict | None:
    """Return what the validation images say of the best trial.

    None for other tasks than binary and multiclass, for another metric than accuracy, and where the best trial's
    predictions or the images' classes are not kept.
    """
    task = run.search.get("search", {}).get("task")
    if task not in ("binary", "multiclass") or run.metric != "val/accuracy" or not run.trials:
        return None
    with_epochs = [trial for trial in ranked(run.trials, run.objectives) if trial.epochs]
    own = _judged(run, with_epochs[0]) if with_epochs else None
    if own is None or not len(own.truth):
        return None
    from scipy.stats import binomtest  # half a second, for which other commands need not wait

    right = _right(own)
    of_class = own.truth.sum(axis=0)
    ci = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    commonest = int(of_class.argmax())
    beside = next((one for one in (_judged(run, trial) for trial in with_epochs[1:]) if one is not None), None)
    lead = None
    if beside is not None:
        other = _right(beside)
        only_first = int((right & ~other).sum())
        only_second = int((other & ~right).sum())
        num = only_first + only_second
        p_value = float(binomtest(only_first, num).pvalue) if num else 1.0
        lead = Lead(beside.trial.trial_id, only_first, only_second, p_value)
    return Verdict(
        own.trial.trial_id,
        len(right),
        int(right.sum()),
        float(ci.low),
        float(ci.high),
        own.classes[commonest],
        float(of_class[commonest] / len(right)),
        lead,
    )


def in_lines(found: Verdict) -> list[str]:
    """Return the verdict in two or three sentences."""
    share = found.num_right / found.num_images
    digits = 0 if found.num_images < 1000 else 1  # as many as so many images support
    lines = [
        f"{found.num_right} of {found.num_images} validation images are right: {share:.{digits}%} (95% interval "
        f"{found.low:.{digits}%} to {found.high:.{digits}%}). Always '{found.commonest}' would be {found.base:.0%}."
    ]
    if found.lead is not None:
        lead = found.lead
        clear = "is clear" if lead.is_clear else "is not clear"
        lines.append(
            f"Its lead over trial {lead.over} {clear}: {lead.only_first} images only it gets right, "
            f"{lead.only_second} only the other (exact McNemar test, p = {lead.p_value:.2g})."
        )
    return lines


def _judged(run: Run, trial: Trial) -> Judged | None:
    try:
        return judged(run, trial)
    except RunError:
        return None


def _right(one: Judged) -> np.ndarray:
    """(N,) bool."""
    return np.asarray((one.truth & one.decided).any(axis=1))
