"""How far the best trial's score can be trusted, in sentences for the first screen."""

from __future__ import annotations

import shlex
from collections.abc import Collection

from analysis.expect.chances import Chances
from analysis.expect.expected import Expected
from analysis.figures.best_trial import class_iou
from analysis.figures.cost import Incumbent
from analysis.figures.verdict import Verdict, digits_for, lead_sentences, percent
from analysis.report.commands import export_folder, of_run
from analysis.report.next_steps import Step, latency_ms
from visionsweep.core.tasks import task_kind
from visionsweep.core.words import counted
from visionsweep.run_dir.run import Run

MUCH_FASTER = 0.67


def trust(run: Run, at: Incumbent, found: Verdict | None, chances: Chances) -> list[Step]:
    """Return whether it leads, what to expect on new photos, by what it was chosen, and its weakest class."""
    steps = [] if found is None else [Step(line) for line in lead_sentences(found)]
    tied = chances.tied(at.best.trial_id)
    if tied:
        steps.append(Step(f"{counted(len(tied), 'trial')} cannot be told from it on these photos (marked ≈)."))
    if (faster := _faster(run, at, tied)) is not None:
        steps.append(faster)
    counts = run.search["data"].get("counts") or {}
    having = sum(bool(trial.values(run.metric)) for trial in run.trials)
    by = f"these {counts['val']:,} photos" if counts.get("val") else "these photos"
    chosen = f"It was chosen among {counted(having, 'trial')} by {by}: {_expectation(chances.expected)}"
    evaluate = ["visionsweep evaluate", export_folder(run)]
    spec = run.search["options"].get("data")
    if counts.get("test") and spec:
        kept_back = f"{counts['test']:,} test photos were kept back: they judge the exported model."
        steps += [Step(chosen), Step(kept_back, _join(*evaluate, "--data", str(spec), "--split", "test"))]
    else:
        kept_back = "No test photos were kept back: label some new ones, and judge the exported model by them."
        steps += [Step(chosen), Step(kept_back, _join(*evaluate, "--data", "NEW_PHOTOS", "--split", "all"))]
    if (weakest := _weakest(run, at, found)) is not None:
        steps.append(Step(weakest))
    return steps


def _expectation(expected: Expected | None) -> str:
    """Return what to expect on new photos."""
    if expected is None:
        return "expect somewhat less on new ones."
    about, low, high = (_shown(value, expected) for value in (expected.score, expected.low, expected.high))
    few = (
        f", by the {expected.num_trials} that kept their predictions"
        if expected.num_trials < expected.competing
        else ""
    )
    return (
        f"expect about {about} on new ones (95% interval {low} to {high}{few}). So much the best gets where resampled "
        "photos choose and the others judge."
    )


def _shown(value: float, expected: Expected) -> str:
    if expected.metric == "val/accuracy":
        return percent(value, expected.num_images)
    return f"{value:.{digits_for(expected.num_images) + 2}f}"


def _faster(run: Run, at: Incumbent, alike: Collection[str]) -> Step | None:
    """Return the tied trial that predicts much faster, if there is one."""
    own = latency_ms(at.best)
    tied = [trial for trial in run.trials if trial.trial_id in alike and latency_ms(trial)]
    quickest = min(tied, key=latency_ms, default=None)
    if quickest is None or latency_ms(quickest) > MUCH_FASTER * own:
        return None
    return Step(
        f"Trial {quickest.trial_id}, which cannot be told from it, predicts an image in {latency_ms(quickest):.3g} ms "
        f"instead of {own:.3g} ms.",
        of_run(run, "export", "--trial", quickest.trial_id, "--out", f"{export_folder(run)}-{quickest.trial_id}"),
    )


def _join(*parts: str) -> str:
    return " ".join([parts[0], *map(shlex.quote, parts[1:])])


def _weakest(run: Run, at: Incumbent, found: Verdict | None) -> str | None:
    if task_kind(run.task).pixels:
        table = class_iou(run, at.best)
        return f"Weakest class: {table['class'].iloc[-1]}, IoU {table['iou'].iloc[-1]:.2f}." if len(table) > 1 else None
    weakest = None if found is None else found.weakest
    if weakest is None:
        return None
    kind = "tag" if task_kind(run.task).tags else "class"
    return f"Weakest {kind}: {weakest.name}, {weakest.num_found} of {weakest.num_images} found."
