"""Sections of the page about one run."""

from __future__ import annotations

from collections import Counter

from analysis.figures.cost import progress_figure
from analysis.figures.fixed_epoch import LEAST_TRIALS, ScoresAtEpoch, scores_at_epoch
from analysis.figures.importance import above_chance, importance_figure, importance_of, strongest
from analysis.figures.learning import curves_figure, rungs, shown_trials
from analysis.figures.slices import contour_figure, contour_pairs, parallel_figure, slice_figure
from analysis.figures.timeline import failures, timeline, timeline_figure
from analysis.figures.tradeoff import tradeoff_figures
from analysis.report.comparisons import comparisons
from analysis.report.plots import Plots
from analysis.report.section import Section
from search_spaces.regimes import readable
from visionsweep.core.words import counted
from visionsweep.run_dir.run import Run

NUM_SLICES = 6
NUM_AXES = 7
MOST_FAILURES = 30


def sections(run: Run, plots: Plots) -> list[Section]:
    at_epoch = scores_at_epoch(run)
    return [
        _curves(run, plots),
        _importance(run, at_epoch, plots),
        comparisons(at_epoch, plots),
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
    found = importance_of(at_epoch)
    if not len(found):
        reason = f"{LEAST_TRIALS} trials that can be compared are needed, and there are {len(at_epoch.table)}."
        section.sentences.append(f"Which parameters mattered cannot be told yet: {reason}")
        return section
    above = above_chance(found)
    section.sentences = [
        f"Above what chance alone would give: {', '.join(map(readable, above))}."
        if above
        else f"Nothing stands above chance yet, by tests corrected for {counted(len(found), 'parameter')}.",
        at_epoch.sentence(),
    ]
    # What does not stand above chance is folded away: bars of noise look like bars of a finding.
    section.folded = "" if above else "What was measured all the same"
    section.plots = [
        plots.add(
            "importance", importance_figure(found), "Importance",
            "PED-ANOVA: what decides whether a trial is among the best; blue where a permutation test, corrected for "
            "the number of parameters, is above chance. fANOVA: shares of the variance, of parameters that every trial "
            "has.",
        )
    ]  # fmt: skip
    names = strongest(found, NUM_SLICES)
    section.grid = [
        plots.add(f"slice-{number}", slice_figure(at_epoch, name), readable(name)) for number, name in enumerate(names)
    ]
    section.grid += [
        plots.add(
            f"contour-{number}", contour_figure(at_epoch, *pair), " and ".join(map(readable, pair)),
            "Colour: how many of the other trials those nearby beat.",
        )
        for number, pair in enumerate(contour_pairs(at_epoch, strongest(found, 12)))
    ]  # fmt: skip
    caption = "A line per trial. Below an axis: the trial does not have that parameter."
    figure = parallel_figure(at_epoch, strongest(found, NUM_AXES))
    section.plots.append(plots.add("parallel", figure, "The strongest together", caption))
    return section


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
    counts = Counter(trial.status for trial in run.trials)
    broke = [f"{counts[status]} {status}" for status in ("failed", "diverged", "oom") if counts[status]]
    interrupted = f"{counted(counts['interrupted'], 'trial')} interrupted." if counts["interrupted"] else ""
    if broke:
        section.sentences = [f"{', '.join(broke)}. Trials with one reason stand together. {interrupted}".strip()]
    else:
        section.sentences = [f"Nothing broke: no trial failed, diverged or ran out of memory. {interrupted}".strip()]
    section.table = found.head(MOST_FAILURES).to_dict("records")  # type: ignore[assignment]
    return section
