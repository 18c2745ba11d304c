"""Sections of the page about one run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.figures.compare import choices, compare_of, effects_figure, label_of
from analysis.figures.cost import progress_figure
from analysis.figures.fixed_epoch import ScoresAtEpoch, scores_at_epoch
from analysis.figures.importance import LEAST_TRIALS, above_chance, importance_figure, importance_of, strongest
from analysis.figures.learning import curves_figure, rungs, shown_trials
from analysis.figures.slices import contour_figure, contour_pairs, parallel_figure, slice_figure
from analysis.figures.timeline import failures, timeline, timeline_figure
from analysis.figures.tradeoff import tradeoff_figures
from analysis.report.plots import Plot, Plots
from search_spaces.regimes import readable, within
from visionsweep.run_dir.load import Run

# The choices that people ask about first, with their titles.
ASKED = {
    "optimizer": "Optimizers",
    "schedule": "Schedules",
    "model/backbone": "Backbones",
    "model/architecture": "Decoders",
    "loss": "Losses",
    "model/freeze": "Frozen parts",
    "model/head": "Heads",
}
NUM_SLICES = 6
NUM_AXES = 7
MOST_FAILURES = 30


@dataclass
class Section:
    """One section. `sentences` come first, `plots` are shown below each other and `grid` side by side."""

    key: str
    title: str
    sentences: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    grid: list[Plot] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)


def sections(run: Run, plots: Plots) -> list[Section]:
    at_epoch = scores_at_epoch(run)
    return [
        _curves(run, plots),
        _importance(run, at_epoch, plots),
        _comparisons(run, at_epoch, plots),
        _costs(run, plots),
        _timeline(run, plots),
        _failures(run),
    ]


def _curves(run: Run, plots: Plots) -> Section:
    section = Section("curves", "Learning curves")
    shown = shown_trials(run)
    having = sum(bool(trial.values(run.metric)) for trial in run.trials)
    if not shown:
        section.sentences.append(f"No trial has a value of {run.metric} yet.")
        return section
    at, unit = rungs(run)
    dashed = f"Dashed lines: the rungs, at {', '.join(f'{rung:g}' for rung in at)} {unit}. " if at else ""
    fewer = (
        f" {len(shown)} of {having} trials are drawn: the best ones, and every so-many-th."
        if len(shown) < having
        else ""
    )
    caption = f"{dashed}A click on a point opens its trial in the ranking.{fewer}"
    section.plots = [
        plots.add("curves", curves_figure(run), f"{run.metric} of every trial", caption),
        plots.add("progress", progress_figure([run], [run.run_dir.name]), f"Best {run.metric} so far"),
    ]
    return section


def _importance(run: Run, at_epoch: ScoresAtEpoch, plots: Plots) -> Section:
    section = Section("importance", "What mattered")
    found = importance_of(at_epoch, run.mode)
    if not len(found):
        reason = f"{LEAST_TRIALS} trials that can be compared are needed, and there are {len(at_epoch.table)}."
        section.sentences.append(f"Which parameters mattered cannot be told yet: {reason}")
        return section
    above = above_chance(found)
    section.sentences = [
        at_epoch.sentence(),
        f"Above what chance alone would give: {', '.join(map(readable, above))}."
        if above
        else "Nothing stands above chance yet.",
    ]
    section.plots = [
        plots.add(
            "importance", importance_figure(found), "Importance",
            "PED-ANOVA: what decides whether a trial is among the best. fANOVA: shares of the variance, of parameters "
            "that every trial has. The mark: what PED-ANOVA finds when the scores are dealt out at random.",
        )
    ]  # fmt: skip
    names = strongest(found, NUM_SLICES)
    section.grid = [
        plots.add(f"slice-{number}", slice_figure(at_epoch, name, run.metric), readable(name))
        for number, name in enumerate(names)
    ]
    section.grid += [
        plots.add(
            f"contour-{number}", contour_figure(at_epoch, *pair, run.metric, run.mode),
            " and ".join(map(readable, pair)),
            f"Colour: mean {run.metric} of the trials nearby.",
        )
        for number, pair in enumerate(contour_pairs(at_epoch, strongest(found, 12)))
    ]  # fmt: skip
    figure = parallel_figure(at_epoch, strongest(found, NUM_AXES), run.metric, run.mode)
    caption = "A line per trial. Below an axis: the trial does not have that parameter."
    section.plots.append(plots.add("parallel", figure, "The strongest together", caption))
    return section


def _comparisons(run: Run, at_epoch: ScoresAtEpoch, plots: Plots) -> Section:
    section = Section("compare", "One against another")
    names = choices(at_epoch)
    asked = [name for one in ASKED for name in names if within(name)[1] == one]
    for number, name in enumerate([*asked, *_other_choices(names)]):
        table = compare_of(run, at_epoch, name)
        rows = _plain(table, [label_of(value) for value in table["value"]])
        regime, own = within(name)
        title = ASKED.get(own, own) + (f" ({regime})" if regime else "")
        caption = _behind(rows)
        section.grid.append(plots.add(f"compare-{number}", effects_figure(rows, run.metric), title, caption))
    switches = []
    for name in (one for one in names if _is_switch(one, at_epoch)):
        table = compare_of(run, at_epoch, name)
        rows = _plain(table, [within(name)[1].removeprefix("augment/")] * len(table))
        switches += [row for row in rows if str(row["value"]) == "True"]
    if switches:
        switches.sort(key=lambda row: -row["effect"] if run.mode == "max" else row["effect"])
        figure = effects_figure(switches, run.metric)
        counts = ", ".join(f"{row['label']} {row['num_trials']}" for row in switches)
        section.plots = [plots.add("augment", figure, "Augmentation: on against off", f"Trials with it: {counts}.")]
    if not section.grid and not section.plots:
        section.sentences = ["No choice has trials of two values yet."]
        return section
    section.sentences = [
        f"{at_epoch.sentence()} A point is the mean of a value's trials less the mean of all others, with its 95% "
        "bootstrap interval; filled where the interval leaves out zero.",
        "The trials were chosen by the search, not dealt out evenly: what came along with a value is part of it.",
    ]
    return section


def _other_choices(names: list[str]) -> list[str]:
    """Return further choices that every configuration has, such as the batch size, but none inside an arm."""
    return [name for name in names if (own := within(name)[1]) not in ASKED and own.count("/") == 0][:6]


def _is_switch(name: str, at_epoch: ScoresAtEpoch) -> bool:
    values = set(map(str, getattr(at_epoch.ranges[name], "choices", ())))
    return within(name)[1].startswith("augment/") and values == {"True", "False"}


def _plain(table: pd.DataFrame, labels: list[str]) -> list[dict[str, Any]]:
    """Return rows with their labels, and None where pandas has NaN."""
    rows = []
    for row, label in zip(table.to_dict("records"), labels, strict=True):
        rows.append({**{str(key): None if value != value else value for key, value in row.items()}, "label": label})
    return rows


def _behind(rows: list[dict[str, Any]]) -> str:
    """Return a phrase with the number of trials of each value."""
    parts = []
    for row in rows:
        broken = f", {row['num_lost']} broke" if row["num_lost"] else ""
        ends = f", {row['num_complete']} to the end ({row['mean_complete']:.4g})" if row["num_complete"] else ""
        parts.append(f"{row['label']}: {row['num_trials']} trials{broken}{ends}")
    return "; ".join(parts) + "."


def _costs(run: Run, plots: Plots) -> Section:
    section = Section("costs", "Score against cost")
    section.grid = [plots.add(f"cost-{one.cost}", one.figure, one.title) for one in tradeoff_figures(run)]
    if section.grid:
        section.sentences = ["The line is the Pareto front of the complete trials: nothing is both cheaper and better."]
    else:
        section.sentences = ["Fewer than two trials have a score and a cost yet."]
    return section


def _timeline(run: Run, plots: Plots) -> Section:
    section = Section("timeline", "Where trials ran")
    table = timeline(run)
    if not len(table):
        section.sentences = ["The lines of the epochs do not say when they were trained."]
        return section
    nodes = table["node"].nunique()
    lanes = len(table[["node", "pid"]].drop_duplicates())
    where = f"{nodes} machines" if nodes > 1 else "one machine"
    many = f"{lanes} processes on {where}, a lane each" if lanes > 1 else f"One process on {where}"
    caption = f"{many}, named by machine and process."
    section.plots = [plots.add("timeline", timeline_figure(run), "Time line", caption)]
    return section


def _failures(run: Run) -> Section:
    section = Section("failures", "What broke")
    found = failures(run)
    if not len(found):
        section.sentences = ["Nothing broke: no trial failed, diverged, ran out of memory or was interrupted."]
        return section
    counts = Counter(trial.status for trial in run.trials)
    parts = [f"{counts[status]} {status}" for status in ("failed", "diverged", "oom", "interrupted") if counts[status]]
    section.sentences = [f"{', '.join(parts)}. Trials with one reason stand together."]
    section.table = found.head(MOST_FAILURES).to_dict("records")  # type: ignore[assignment]
    return section
