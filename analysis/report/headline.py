"""Headline of the page: the best score, what it is compared with, and what it cost."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from analysis.figures.cost import Incumbent, incumbent, run_cost
from analysis.report.payload import words_of
from visionsweep.core.objectives import value_of
from visionsweep.core.text import duration
from visionsweep.run_dir.load import Run
from visionsweep.run_dir.rank import with_fronts
from visionsweep.run_dir.trials import STATUSES


@dataclass(frozen=True)
class Fact:
    """A number with its name. note: a few words under it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """The headline. score is empty if no trial has one. facts are shown side by side."""

    score: str
    words: str
    sentence: str
    facts: list[Fact]


def headline(run: Run) -> Headline:
    at = incumbent(run)
    facts = [_trials(run), *_cost_facts(run)]
    if at is None:
        counts = Counter(trial.status for trial in run.trials)
        proposed = f"{len(run.trials)} trials were proposed" if run.trials else "No trial was proposed"
        sentence = f"{proposed}, and none has a score yet"
        sentence += f": {', '.join(f'{count} {status}' for status, count in counts.items())}." if counts else "."
        return Headline("", "", sentence, facts)
    facts = [*_against(run, at), *facts]
    return Headline(f"{at.score:.4f}", words_of(at.best.config), _sentence(run, at), facts)


def _sentence(run: Run, at: Incumbent) -> str:
    trial = at.best
    if trial.status == "complete":
        last = max(int(row["epoch"]) for row in trial.epochs)
        return f"Trial {trial.trial_id}, complete; its best epoch was {at.epoch} of {last}."
    epochs = f"{len(trial.epochs)} of {trial.config.get('epochs', run.full_epochs)} epochs"
    return f"Trial {trial.trial_id}, so far: {trial.status} after {epochs}. No trial has trained to the end yet."


def _against(run: Run, at: Incumbent) -> list[Fact]:
    def fact(name: str, other: float, note: str) -> Fact:
        gain = at.score - other if run.mode == "max" else other - at.score
        return Fact(name, f"{gain:+.4f}", f"{other:.4f}: {note}")

    facts = []
    if at.warm is not None and at.warm_trial is not None:
        score, count = at.warm
        many = f"the better of {count}" if count == 2 else f"the best of {count}" if count > 1 else "the only one"
        if at.warm_trial is at.best:
            facts.append(Fact("warm starts", str(count), "the best trial is one of them"))
        else:
            facts.append(fact("better than the warm starts", score, f"{many}, {words_of(at.warm_trial.config)}"))
    if at.middle is not None and at.middle[1] > 1:
        facts.append(fact("better than the median trial", at.middle[0], f"of {at.middle[1]} with a score"))
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
    facts.append(Fact(kind, f"{cost.device_hours:.2f}", f"{cost.epochs} epochs of all trials"))
    if cost.num_pruned:
        note = f"{cost.saved_epochs} epochs that {cost.num_pruned} pruned trials did not train: {cost.saved_share:.0%}"
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
