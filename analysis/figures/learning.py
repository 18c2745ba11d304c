"""Learning curves of all trials, and the rungs at which they are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import plotly.graph_objects as go

from analysis.figures.style import BEST, GREY, plot, status_colour
from visionsweep.core.rungs import milestones, milestones_s
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

MOST_CURVES = 300


def rungs(run: Run) -> tuple[list[float], str]:
    """Return the rungs of the run's pruner, and their unit, epochs or seconds. A pruner without rungs has none."""
    search = run.search["search"]
    factor = search.get("reduction_factor", 3)
    grace = search.get("grace_epochs", 1)
    match search.get("pruner", "asha"):
        case "asha" if search.get("rungs") == "seconds":
            return milestones_s(search.get("grace_seconds"), factor), "seconds"
        case "asha" | "hyperband":
            return milestones(grace, factor, run.full_epochs), "epochs"
        case "stock":  # Ray's ASHA with its defaults
            return milestones(1, 4, run.full_epochs), "epochs"
    return [], "epochs"


def shown_trials(run: Run, count: int = MOST_CURVES) -> list[Trial]:
    """Return at most `count` trials with a score: the best as a third of them, and the others evenly thinned out."""
    having = [trial for trial in ranked(run.trials, run.objectives) if trial.values(run.metric)]
    if len(having) <= count:
        return having
    first = having[: count // 3]
    rest = having[count // 3 :]
    return first + rest[:: math.ceil(len(rest) / (count - len(first)))]


def curves_figure(run: Run) -> go.Figure:
    """Plot the metric of every trial over its epochs, or over its seconds if its rungs are in seconds."""
    at, unit = rungs(run)
    shown = shown_trials(run)
    best = shown[0] if shown else None
    traces: list[Any] = []
    for status in dict.fromkeys(trial.status for trial in reversed(shown)):
        some = [trial for trial in shown if trial.status == status and trial is not best]
        if some:
            traces.append(_lines(run, some, unit, status, status_colour(status), 1.1, 0.55))
    if best is not None:
        traces.append(_lines(run, [best], unit, f"best: {best.trial_id}", BEST, 2.6, 1.0))
    ends = [x for trial in shown for x, _ in _points(run, trial, unit)]
    figure = plot(traces, x=unit if unit == "seconds" else "epoch", y=run.metric, height=440)
    for rung in [one for one in at if ends and one <= max(ends)]:
        figure.add_vline(x=rung, line={"width": 1, "color": GREY, "dash": "dash"})
        figure.add_annotation(
            x=rung, y=1, yref="paper", yanchor="bottom", text=f"{rung:g}", showarrow=False, font={"size": 10}
        )
    scores = sorted(value for trial in shown for value in trial.values(run.metric).values())
    if run.mode == "min" and scores:  # a diverging loss would flatten all others
        figure.update_yaxes(range=[min(scores) * 0.95, scores[int(0.95 * (len(scores) - 1))] * 1.1])
    return figure


def _lines(
    run: Run, trials: Sequence[Trial], unit: str, name: str, colour: str, width: float, opacity: float
) -> go.Scatter:
    """Return many curves as one trace, separated by gaps: a trace for each would take the browser seconds."""
    x: list[float | None] = []
    y: list[float | None] = []
    ids: list[str | None] = []
    for trial in trials:
        for at, value in _points(run, trial, unit):
            x.append(at)
            y.append(value)
            ids.append(trial.trial_id)
        x.append(None)
        y.append(None)
        ids.append(None)
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=name,
        opacity=opacity,
        line={"color": colour, "width": width},
        marker={"size": 3 + width, "color": colour},
        customdata=ids,
        hovertemplate="trial %{customdata}<br>%{x:.4g}: %{y:.4g}<extra></extra>",
    )


def _points(run: Run, trial: Trial, unit: str) -> list[tuple[float, float]]:
    rows = sorted(trial.curve, key=lambda row: int(row["epoch"]))
    values = trial.values(run.metric)
    spent = accumulate(float(row["seconds"]) for row in rows)
    at = {row["epoch"]: now if unit == "seconds" else row["epoch"] for row, now in zip(rows, spent, strict=True)}
    return [(at[epoch], values[epoch]) for epoch in sorted(values)]
