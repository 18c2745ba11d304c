"""What to do next, as the curves and the costs of a run say, each with its command."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from analysis.figures.best_trial import class_iou
from analysis.figures.cost import Incumbent, best_so_far
from analysis.figures.verdict import Verdict
from analysis.report.commands import again, of_run
from visionsweep.core.tasks import task_kind
from visionsweep.core.text import duration
from visionsweep.core.words import counted
from visionsweep.run_dir.files import PREDICTIONS
from visionsweep.run_dir.run import SETTLED, Run
from visionsweep.run_dir.shapes import is_number
from visionsweep.run_dir.trials import Trial

FEW_COMPLETE = 10
LATE = 0.75  # of the training time: a best found later may not be the last
COSTLY = 0.25  # of the training time, by one trial
WEAK = 0.1  # below the others' share
STEP_PX = 32
MOST_PX = 512


@dataclass(frozen=True)
class Step:
    """A sentence, and the command that does it, '' where there is none."""

    sentence: str
    command: str = ""


def next_steps(run: Run, at: Incumbent, found: Verdict | None, recommended: dict[str, Any] | None) -> list[Step]:
    """Return what would help most, at most one step of each kind."""
    steps = [
        _settled(run) or _search_on(run),
        _train_longer(run, at.best, at.epoch),
        _more_photos(run, at.best, found),
        _larger_images(run, at.best),
        _several_models(run, recommended),
        _cheaper(run, at, found),
    ]
    return [step for step in steps if step is not None]


def _settled(run: Run) -> Step | None:
    """Say when nothing more than noise was left to gain, and how much was searched since."""
    found = run.search.get(SETTLED)
    if not isinstance(found, dict) or not all(is_number(found.get(key)) for key in ("time", "trials", "gain", "noise")):
        return None
    since = [row for trial in run.trials for row in trial.epochs if float(row.get("time", 0.0)) > found["time"]]
    took = f" {duration(sum(float(row['seconds']) for row in since))} of training came after." if since else ""
    return Step(
        f"After {counted(int(found['trials']), 'trial')} the search's model saw at most {found['gain']:.4f} of "
        f"{run.metric} to gain, less than the standard error of the best score ({found['noise']:.4f}): more photos, or "
        f"another space, will help more than more trials.{took}"
    )


def _search_on(run: Run) -> Step | None:
    counts = Counter(trial.status for trial in run.trials)
    if counts["running"]:
        return None
    command = of_run(run, "resume", *_more(run))
    complete = counts["complete"]
    if counts["interrupted"]:
        were, them = ("was", "it") if counts["interrupted"] == 1 else ("were", "them")
        return Step(f"{counted(counts['interrupted'], 'trial')} {were} interrupted: train {them} to the end.", command)
    if complete < FEW_COMPLETE:
        of = "" if complete == len(run.trials) else f" of {len(run.trials)}"
        trials = "trial" if len(run.trials) == 1 else "trials"
        return Step(f"Only {complete}{of} {trials} trained to the end: search on.", command)
    progress = best_so_far(run)
    improved = progress.drop_duplicates("trial_id")["hours"].iloc[-1] / max(progress["hours"].iloc[-1], 1e-9)
    if improved > LATE:
        return Step(f"The best trial came after {improved:.0%} of the training time: search on.", command)
    return None


def _more(run: Run) -> tuple[str, str]:
    options = run.search.get("options", {})
    return ("--budget", "20m") if options.get("budget_s") or not options.get("num_trials") else ("--trials", "+10")


def _train_longer(run: Run, best: Trial, epoch: int) -> Step | None:
    last = max((int(row["epoch"]) for row in best.curve), default=0)
    if best.status != "complete" or last < 2 or epoch < last:
        return None
    return Step(f"It was still improving at its last epoch ({last}): train longer.", again(run, epochs=2 * last))


def _more_photos(run: Run, best: Trial, found: Verdict | None) -> Step | None:
    command = again(run)
    if task_kind(run.task).pixels:
        table = class_iou(run, best)
        if len(table) < 2 or table["iou"].iloc[-1] > table["iou"].mean() - WEAK:
            return None
        name, iou = table.iloc[-1]
        return Step(f"'{name}' is found worst (IoU {iou:.2f}): add photos of it, then search again.", command)
    weakest = None if found is None else found.weakest
    if weakest is None or weakest.num_found / weakest.num_images > weakest.overall - WEAK:
        return None
    missed = weakest.num_images - weakest.num_found
    return Step(
        f"{missed} of {counted(weakest.num_images, 'photo')} of '{weakest.name}' are not found: add photos of it, then "
        "search again.",
        command,
    )


def _larger_images(run: Run, best: Trial) -> Step | None:
    known = sorted({_size(trial) for trial in run.trials if trial.epochs} - {0})
    size = _size(best)
    if len(known) < 2 or size != known[-1] or size >= MOST_PX:
        return None
    larger = min(MOST_PX, STEP_PX * math.ceil(size * 4 / 3 / STEP_PX))
    return Step(f"It takes the largest images that were tried ({size} px): try larger.", again(run, image_size=larger))


def _several_models(run: Run, recommended: dict[str, Any] | None) -> Step | None:
    kept = [path for path in (run.run_dir / PREDICTIONS).glob("*") if path.is_dir()]
    if recommended is not None or len(kept) < 2 or len(run.objectives) > 1:
        return None
    return Step("Several models together may predict better: the command says whether.", of_run(run, "ensemble"))


def _cheaper(run: Run, at: Incumbent, found: Verdict | None) -> Step | None:
    """Name the trial that took the most time for nothing."""
    whole = sum(trial.seconds for trial in run.trials)
    costliest = max(run.trials, key=lambda trial: trial.seconds)
    tied = {at.best.trial_id, *(() if found is None else found.tied)}
    score = costliest.best(run.metric, run.mode)
    if not whole or costliest.seconds / whole < COSTLY or costliest.trial_id in tied or score is None:
        return None
    setting = _difference(costliest, at.best)
    if setting is None:
        return None
    key, value, theirs = setting
    return Step(
        f"Trial {costliest.trial_id} ({theirs}) took {costliest.seconds / whole:.0%} of the training time "
        f"({duration(costliest.seconds)}) and is not among the best.",
        again(run, **{key: value}),
    )


def _difference(costly: Trial, best: Trial) -> tuple[str, Any, str] | None:
    """Return a setting of the best trial that would have been cheaper, and the costly one's in words."""
    regimes = [trial.config.get("regime") for trial in (costly, best)]
    if regimes[0] != regimes[1] and regimes[1] is not None:
        return "regime", regimes[1], str(regimes[0])
    if _size(costly) > _size(best) > 0:
        return "image_size", _size(best), f"{_size(costly)} px"
    names = [_backbone(trial) for trial in (costly, best)]
    slower = latency_ms(costly) > latency_ms(best)
    return ("model__backbone", names[1], names[0]) if names[0] != names[1] and slower else None


def _size(trial: Trial) -> int:
    """Return the side of its images in pixels, 0 where its configuration does not say."""
    size = trial.config.get("image_size")
    return size if isinstance(size, int) else 0


def _backbone(trial: Trial) -> str:
    model = trial.config.get("model")
    return str(model.get("backbone")) if isinstance(model, dict) else ""


def latency_ms(trial: Trial) -> float:
    """Return the fastest pass of one image, 0 where it was not measured."""
    known = [float(row["latency_ms"]) for row in trial.epochs if row.get("latency_ms")]
    return min(known, default=0.0)
