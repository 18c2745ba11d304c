"""Score against cost: which trials give the most for their cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.style import BEST, plot, status_colour
from visionsweep.core.objectives import value_of
from visionsweep.core.pareto import fronts
from visionsweep.run_dir.run import Run

# A trial's costs, smaller is better, and the titles of their axes.
COSTS = {
    "train_seconds": "seconds of training",
    "latency_ms": "latency of one image in ms",
    "parameters": "parameters of the model",
    "peak_memory_mb": "peak memory in MB",
}
MOST_POINTS = 3000


def costs(run: Run) -> pd.DataFrame:
    """Return a row for each trial with a score: trial_id, status, score, COSTS and front_COST.

    front_COST is whether no complete trial is both cheaper and better. Only complete trials are on a front.
    """
    rows: list[dict[str, Any]] = []
    for trial in run.trials:
        best = trial.best(run.metric, run.mode)
        if best is not None:
            measured = {name: value_of(trial.epochs[-1], name) for name in COSTS if name != "train_seconds"}
            rows.append(
                {"trial_id": trial.trial_id, "status": trial.status, "score": best[0],
                 "train_seconds": trial.seconds, **measured}
            )  # fmt: skip
    for name in COSTS:
        competing = [row for row in rows if row["status"] == "complete" and row[name] is not None]
        found = fronts([(run.sign * row["score"], -row[name]) for row in competing])
        on_front = {row["trial_id"] for row, front in zip(competing, found, strict=True) if front == 1}
        for row in rows:
            row[f"front_{name}"] = row["trial_id"] in on_front
    columns = ["trial_id", "status", "score", *COSTS, *(f"front_{name}" for name in COSTS)]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class Tradeoff:
    cost: str
    title: str
    figure: go.Figure


def tradeoff_figures(run: Run) -> list[Tradeoff]:
    """Return one figure for each cost that differs among the trials."""
    table = costs(run)
    found = []
    for name, title in COSTS.items():
        some = table.dropna(subset=[name])
        if some[name].nunique() > 1:
            found.append(Tradeoff(name, title, _figure(some, name, title, run)))
    return found


def _figure(table: pd.DataFrame, cost: str, title: str, run: Run) -> go.Figure:
    front = table[table[f"front_{cost}"]].sort_values(cost)
    traces: list[Any] = []
    shown = table.iloc[-MOST_POINTS:]
    for status in sorted(set(shown["status"]), key=lambda one: one == "complete"):
        some = shown[shown["status"] == status]
        traces.append(
            go.Scatter(
                x=some[cost], y=some["score"], mode="markers", name=status, customdata=some["trial_id"],
                marker={"color": status_colour(status), "size": 7, "opacity": 0.7},
                hovertemplate="trial %{customdata}<br>%{x:.4g}: %{y:.4g}<extra></extra>",
            )
        )  # fmt: skip
    traces.append(
        go.Scatter(
            x=front[cost], y=front["score"], mode="lines+markers", name="Pareto front", customdata=front["trial_id"],
            line={"shape": "hv" if run.mode == "max" else "vh", "color": BEST, "width": 2},
            marker={"size": 10, "symbol": "circle-open", "line": {"width": 2}},
            hovertemplate="trial %{customdata}, on the front<br>%{x:.4g}: %{y:.4g}<extra></extra>",
        )
    )  # fmt: skip
    spread = float(table[cost].max()) > 20 * max(float(table[cost].min()), 1e-9)
    figure = plot(traces, x=title, y=run.metric, height=330, showlegend=False)
    return figure.update_xaxes(type="log" if spread else "linear")
