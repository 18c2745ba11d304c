"""First screen of the page: the data, the result, the model, how far it can be trusted, and what to do next."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from analysis.expect.chances import Chances
from analysis.figures.cost import Incumbent, incumbent, run_cost
from analysis.figures.verdict import Verdict, percent, result_sentence
from analysis.report.commands import export_folder, of_run
from analysis.report.digits import as_percent, digits_of, num_images, written
from analysis.report.model_words import model_words
from analysis.report.next_steps import Step, next_steps
from analysis.report.payload import words_of
from analysis.report.trust import trust
from visionsweep.core.errors import RunError
from visionsweep.core.objectives import value_of
from visionsweep.core.tasks import task_kind
from visionsweep.core.text import duration
from visionsweep.core.words import counted
from visionsweep.run_dir.files import PREDICTIONS, trial_folder
from visionsweep.run_dir.rank import with_fronts
from visionsweep.run_dir.recommended import in_sentences, stored
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import STATUSES

MOST_CLASSES = 6
NOT_KNOWN = Chances()


@dataclass(frozen=True)
class Fact:
    """A number with its name. note: a few words under it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """The first screen. score is empty if no trial has one, and the parts below it are too.

    data    a sentence on the photos, classes and split
    model   the model in words, with the command that exports it
    chosen  how the recommended one was chosen, folded away
    trust   sentences
    steps   what to do next
    facts   what was spent, shown side by side further below
    """

    data: str
    score: str
    sentence: str
    result: list[str] = field(default_factory=list)
    model: list[Step] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    trust: list[Step] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)


def headline(run: Run, found: Verdict | None, chances: Chances = NOT_KNOWN) -> Headline:
    """Return the first screen. found: what the validation images say of the best trial. chances: how far it is luck."""
    at = incumbent(run)
    facts = [_trials(run), *_cost_facts(run)]
    if at is None:
        counts = Counter(trial.status for trial in run.trials)
        were = "was" if len(run.trials) == 1 else "were"
        proposed = f"{counted(len(run.trials), 'trial')} {were} proposed" if run.trials else "No trial was proposed"
        sentence = f"{proposed}, and none has a score yet"
        sentence += f": {', '.join(f'{count} {status}' for status, count in counts.items())}." if counts else "."
        return Headline(_data(run), "", sentence, facts=facts)
    recommended = _recommended(run)
    return Headline(
        data=_data(run),
        score=_score(run, at),
        sentence=_sentence(run, at),
        result=_result(run, at, found),
        model=_model(run, at, recommended),
        trust=trust(run, at, found, chances),
        chosen=[] if recommended is None else in_sentences(recommended)[1:],
        steps=next_steps(run, at, found, recommended),
        facts=[*_against(run, at), *facts],
    )


def _data(run: Run) -> str:
    """Return a sentence on the photos, as far as search.json tells."""
    data = run.search["data"]
    counts = data.get("counts") or {}
    classes = [str(name) for name in data.get("classes", [])]
    used = sum(counts.get(split) or 0 for split in ("train", "val", "test"))
    if not used:
        return ""
    listed = ", ".join(classes[:MOST_CLASSES]) + (", ..." if len(classes) > MOST_CLASSES else "")
    kind = "tag" if task_kind(run.task).tags else "class"
    many = f"1 {kind}" if len(classes) == 1 else f"{len(classes)} {'tags' if kind == 'tag' else 'classes'}"
    of_classes = f", {many} ({listed})" if classes else ""
    purposes = {"train": "to train on", "val": "to judge by", "test": "to test on"}
    sides = ", ".join(f"{counts[split]:,} {purpose}" for split, purpose in purposes.items() if counts.get(split))
    left_out = ", ".join(
        f"{counts[name]:,} {words}"
        for name, words in (("skipped", "could not be read"), ("duplicate", "were copies"))
        if counts.get(name)
    )
    return f"{counted(used, 'photo')}{of_classes}: {sides}." + (f" Of others, {left_out}." if left_out else "")


def _score(run: Run, at: Incumbent) -> str:
    return percent(at.score, num_images(run) or 1000) if as_percent(run) else written(run, at.score)


def _sentence(run: Run, at: Incumbent) -> str:
    trial = at.best
    if trial.status == "complete":
        last = max(int(row["epoch"]) for row in trial.curve)
        if trial.deviation is not None:
            spread = f"{trial.deviation:.{digits_of(run)}f}"
            return f"Trial {trial.trial_id}, complete: the mean over {trial.num_folds} folds, ± {spread} between them."
        if last == 1:
            return f"Trial {trial.trial_id}, complete after its single epoch."
        return f"Trial {trial.trial_id}, complete; its best epoch was {at.epoch} of {last}."
    epochs = f"{len(trial.curve)} of {counted(trial.config.get('epochs', run.full_epochs), 'epoch')}"
    return f"Trial {trial.trial_id}, so far: {trial.status} after {epochs}. No trial has trained to the end yet."


def _result(run: Run, at: Incumbent, found: Verdict | None) -> list[str]:
    if found is not None:
        return [result_sentence(found)]
    if len(run.objectives) > 1:
        return []
    why = "the page knows no interval of this metric"
    if task_kind(run.task).pixels and run.metric != "val/loss":
        why = "its pixels were not counted image by image"
    if not trial_folder(run.run_dir, PREDICTIONS, at.best.trial_id).is_dir():
        why = "its predictions are not kept"
    return [f"How sure that is cannot be told here: {why}. The command of `evaluate` below gives intervals."]


def _model(run: Run, at: Incumbent, recommended: dict[str, Any] | None) -> list[Step]:
    own = Step(f"Trial {at.best.trial_id}: {model_words(at.best.config)}.")
    command = of_run(run, "export", "--out", export_folder(run))
    if recommended is None:
        return [Step(own.sentence, command)]
    lines = in_sentences(recommended)
    return [own, Step(lines[0], command)]


def _recommended(run: Run) -> dict[str, Any] | None:
    try:
        return stored(run.run_dir)
    except RunError:  # `export` says what is wrong with it
        return None


def _against(run: Run, at: Incumbent) -> list[Fact]:
    def fact(name: str, other: float, note: str) -> Fact:
        gain = at.score - other if run.mode == "max" else other - at.score
        return Fact(name, f"{gain:+.{digits_of(run)}f}", f"{written(run, other)}: {note}")

    facts = []
    if at.warm is not None and at.warm_trial is not None:
        score, count = at.warm
        many = f"the better of {count}" if count == 2 else f"the best of {count}" if count > 1 else "the only one"
        if at.warm_trial is at.best:
            facts.append(Fact("first guesses", str(count), "the best trial is one of them"))
        else:
            facts.append(fact("better than the first guesses", score, f"{many}, {words_of(at.warm_trial.config)}"))
    return [*facts, *_objectives(run, at)]


def _objectives(run: Run, at: Incumbent) -> list[Fact]:
    """Return the best trial's values in the other objectives, and the size of the Pareto front."""
    if len(run.objectives) == 1:
        return []
    row = at.best.best_row(run.objectives[0]) or {}
    facts = [Fact(one.name, f"{value_of(row, one.name) or 0:.4g}", "of that trial") for one in run.objectives[1:]]
    front = sum(number == 1 for _, number in with_fronts(run.trials, run.objectives))
    return [*facts, Fact("on the Pareto front", str(front), "trials that none is better than in everything")]


def _trials(run: Run) -> Fact:
    counts = Counter(trial.status for trial in run.trials)
    order = [*(status for status in STATUSES if counts[status]), *(["running"] if counts["running"] else [])]
    return Fact("trials", str(len(run.trials)), ", ".join(f"{counts[status]} {status}" for status in order))


def _cost_facts(run: Run) -> list[Fact]:
    cost = run_cost(run)
    facts = []
    if cost.wall_s is not None and cost.epochs:
        running = any(trial.status == "running" for trial in run.trials)
        facts.append(Fact("wall-clock", duration(cost.wall_s), "until its last line" if running else ""))
    kind = {"cuda": "GPU-hours", "cpu": "CPU-hours"}.get(cost.device, "hours of training")
    facts.append(Fact(kind, f"{cost.device_hours:.2f}", f"{counted(cost.epochs, 'epoch')} of all trials"))
    if cost.num_pruned:
        saved = f"{counted(cost.saved_epochs, 'epoch')} that {counted(cost.num_pruned, 'pruned trial')} did not train"
        note = f"{saved}: {cost.saved_share:.0%}"
        facts.append(Fact("saved by pruning", duration(cost.saved_s), note))
    return facts


def last_sign(run: Run) -> str:
    """Return a sentence on when something was last written, or '' if no trial is running."""
    running = [trial for trial in run.trials if trial.status == "running"]
    if not running:
        return ""
    times = [row["time"] for trial in run.trials for row in trial.epochs if "time" in row]
    many = f"{len(running)} trials are running" if len(running) > 1 else "1 trial is running"
    if not times:
        return f"{many}, or were when the search was cut off; no epoch has ended yet."
    ago = time.time() - max(times)
    return (
        f"{many}, or were when the search was cut off: the last epoch ended {duration(ago)} before this page was made."
    )
