"""How good the best trial is, as far as its validation images tell: an interval, a baseline, and whether it leads.

Beside a score stands what chance makes of it on so many images, what always giving one answer would get, and whether
its lead over the second is more than luck on the same images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from analysis.expect.ties import as_good
from analysis.figures.best_trial import Judged, class_scores, judged, judged_on_folds
from analysis.figures.leads import Lead, by_mcnemar, by_resampling, right, wilson
from analysis.figures.pixels import JudgedMasks, judged_masks
from analysis.figures.resampled import RANKING, Kept, score
from visionsweep.core.errors import RunError
from visionsweep.core.objectives import DEFAULT_OBJECTIVE
from visionsweep.core.tasks import task_kind
from visionsweep.core.words import counted
from visionsweep.run_dir.files import PREDICTIONS, trial_folder
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

ACCURACY = "val/accuracy"


@dataclass(frozen=True)
class Weakest:
    """The class of which the smallest share is found. overall: that share of all classes together."""

    name: str
    num_found: int
    num_images: int
    overall: float


@dataclass(frozen=True)
class Verdict:
    """The best trial on the validation images.

    score      by the run's metric
    num_right  where the metric is accuracy with one class an image, else None
    low, high  a 95% interval of the score (accuracy: Wilson 1927; else of resampled images); None where it is unknown
    constant   the class that is best to answer always, and its score then; '' for a metric of the ranking, where any
               constant answer gets that; None for a loss and top-5
    lead       over the next trial that has kept its predictions, None where none has
    tied       trials that are tied with the best (`analysis/expect/ties.py`), as far as predictions are kept
    weakest    None with one class alone, or where every class is found alike
    """

    trial_id: str
    metric: str
    score: float
    num_images: int
    num_right: int | None
    low: float | None
    high: float | None
    constant: tuple[str, float] | None
    lead: Lead | None
    tied: tuple[str, ...]
    weakest: Weakest | None


def verdict(run: Run, tied: Mapping[str, bool] | None = None) -> Verdict | None:
    """Return what the validation images say of the best trial.

        tied  which trials are tied with the best, None asks `analysis.expect.ties`

    None for several objectives, for a metric that is not known here, and where the images' classes or pixels are not
    kept. Without the best trial's predictions an accuracy still has its interval, but no lead.
    """
    task = run.search.get("search", {}).get("task")
    if task not in DEFAULT_OBJECTIVE or not run.trials or len(run.objectives) > 1:
        return None
    with_epochs = [trial for trial in ranked(run.trials, run.objectives) if trial.epochs]
    own = _judged(run, with_epochs[0]) if with_epochs else None
    if own is None or not len(own.truth):
        return _by_score(run, task, with_epochs[0]) if with_epochs else None
    found = score(own, task, run.metric)
    if found is None:
        return None
    kept = (_judged(run, trial) for trial in with_epochs[1:])
    others = [one for one in kept if one is not None and one.classes == own.classes]  # trials may merge classes
    num_right = None
    low: float | None
    high: float | None
    if isinstance(own, Judged) and run.metric == ACCURACY and not task_kind(task).tags:
        num_right = int(right(own).sum())
        low, high = wilson(num_right, len(own.truth))
        leads = [by_mcnemar(own, other) for other in others if isinstance(other, Judged)]
    else:
        low, high, leads = by_resampling(run, task, [own, *others])
    alike = as_good(run) if tied is None else tied
    return Verdict(
        trial_id=own.trial.trial_id,
        metric=run.metric,
        score=found,
        num_images=len(own.truth),
        num_right=num_right,
        low=low,
        high=high,
        constant=_constant(own, task, run.metric),
        lead=leads[0] if leads else None,
        tied=tuple(trial_id for trial_id, is_tied in alike.items() if is_tied and trial_id != own.trial.trial_id),
        weakest=_weakest(own) if isinstance(own, Judged) else None,
    )


def _by_score(run: Run, task: str, trial: Trial) -> Verdict | None:
    """Return what an accuracy alone says, where no predictions are kept: the share of so many images."""
    best = trial.best(run.metric, run.mode)
    targets = run.search.get("data", {}).get("val_targets")
    classes = run.search.get("data", {}).get("classes", [])
    if (
        run.num_folds > 1
        or run.metric != ACCURACY
        or task_kind(task).tags
        or best is None
        or not 0 <= best[0] <= 1
        or not targets
    ):
        return None
    if not all(isinstance(target, int) and target < len(classes) for target in targets):
        return None
    num_right = round(best[0] * len(targets))
    of_class = np.bincount(np.asarray(targets, dtype=np.int64), minlength=len(classes))
    commonest = int(of_class.argmax())
    low, high = wilson(num_right, len(targets))
    constant = str(classes[commonest]), float(of_class[commonest] / len(targets))
    return Verdict(
        trial.trial_id,
        run.metric,
        best[0],
        len(targets),
        num_right,
        low,
        high,
        constant,
        lead=None,
        tied=(),
        weakest=None,
    )


def digits_for(num_images: int) -> int:
    """Return how many digits of a percentage so many images support."""
    return 0 if num_images < 1000 else 1


def percent(share: float, num_images: int) -> str:
    """Return a share with the digits that so many images support, and one more where it would round to all or none."""
    digits = digits_for(num_images)
    finer = f"{share:.{digits + 1}%}"
    rounds_away = f"{share:.{digits}%}" in (f"{0:.{digits}%}", f"{1:.{digits}%}")
    is_told_apart = float(finer[:-1]) not in (0.0, 100.0)
    return finer if rounds_away and is_told_apart else f"{share:.{digits}%}"


def in_lines(found: Verdict) -> list[str]:
    """Return the verdict in two or three sentences."""
    return [result_sentence(found), *lead_sentences(found)]


def result_sentence(found: Verdict) -> str:
    """Return the score with its interval and its baseline."""
    if found.num_right is not None:
        whole = percent(found.score, found.num_images)
        first = f"{found.num_right} of {found.num_images} validation images are right: {whole}"
    else:
        first = f"{found.metric} is {shown(found.score, found)} on {found.num_images} validation images"
    if found.low is not None and found.high is not None:
        bounds = (found.low, found.high)
        if found.num_right is not None:
            finer = max(len(percent(one, found.num_images).partition(".")[2]) - 1 for one in bounds)
            low, high = (f"{one:.{max(0, finer)}%}" for one in bounds)  # both with the digits that one of them needs
        else:
            low, high = (shown(one, found) for one in bounds)
        first += f" (95% interval {low} to {high})"
    if found.constant is None:
        return f"{first}."
    name, base = found.constant
    would_be = f"{base:.0%}" if found.num_right is not None else shown(base, found)
    return f"{first}. Always '{name}' would be {would_be}." if name else f"{first}. Guessing would be {would_be}."


def lead_sentences(found: Verdict) -> list[str]:
    """Return a sentence on the lead over the second trial, none where it is unknown."""
    lead = found.lead
    if lead is None:
        return []
    clear = "is clear" if lead.is_clear else "is not clear"
    if lead.only_first is not None and lead.only_first == lead.only_second:
        each = f"{counted(lead.only_first, 'image')} only it gets right, and as many only the other"
        return [f"It leads trial {lead.over} by nothing: {each if lead.only_first else 'the same images are right'}."]
    if lead.only_first is None:
        how = f"a difference of {lead.gain:+.2g} (resampled images, p = {lead.p_value:.2g})"
    else:
        how = (
            f"{counted(lead.only_first, 'image')} only it gets right, {lead.only_second} only the other "
            f"(exact McNemar test, p = {lead.p_value:.2g})"
        )
    return [f"Its lead over trial {lead.over} {clear}: {how}."]


def shown(value: float, found: Verdict) -> str:
    """Return a score with the digits that so many images support."""
    return f"{value:.{digits_for(found.num_images) + 2}f}"


def _judged(run: Run, trial: Trial) -> Kept | None:
    if not trial_folder(run.run_dir, PREDICTIONS, trial.trial_id).is_dir():  # thousands of trials keep none
        return None
    try:
        if task_kind(run.task).pixels:
            return judged_masks(run, trial)
        return judged(run, trial) if run.num_folds == 1 else judged_on_folds(run, trial)
    except RunError:
        return None


def _constant(own: Kept, task: str, metric: str) -> tuple[str, float] | None:
    """Return the class that is best to answer always, with its score."""
    if metric in ("val/loss", "val/top5"):  # of the probabilities alone
        return None
    if isinstance(own, Judged) and metric.removeprefix("val/") in RANKING:
        value = score(replace(own, ranked=np.zeros(own.truth.shape)), task, metric)
        return None if value is None else ("", value)
    best: tuple[str, float] | None = None
    for number in np.argsort(-own.truth.sum(axis=0), kind="stable")[:20]:  # of many classes, the commonest
        value = score(_always(own, int(number)), task, metric)
        if value is not None and (best is None or value > best[1]):
            best = (own.classes[number], value)
    return best


def _always(own: Kept, number: int) -> Kept:
    """Return the predictions as they were if every image, or every pixel, were decided to be of one class."""
    if isinstance(own, JudgedMasks):
        pixels = np.zeros_like(own.decided)
        pixels[:, number] = own.truth.sum(axis=1)
        hits = np.zeros_like(own.hits)
        hits[:, number] = own.truth[:, number]
        return replace(own, hits=hits, decided=pixels)
    decided = np.zeros_like(own.decided)
    decided[:, number] = True
    return replace(own, decided=decided)


def _weakest(own: Judged) -> Weakest | None:
    table = class_scores(own).dropna(subset=["recall"])
    if len(table) < 2 or table["recall"].min() == table["recall"].max():
        return None
    row = table.sort_values(["recall", "num_images"], ascending=[True, False], kind="stable").iloc[0]
    found = round(float(row["recall"]) * int(row["num_images"]))
    overall = float((own.truth & own.decided).sum() / own.truth.sum())
    return Weakest(str(row["class"]), found, int(row["num_images"]), overall)
