"""Comparison of the values of one choice: optimizers, schedules, backbones, augmentations on and off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.figures.fixed_epoch import ScoresAtEpoch, broken_before, scores_at_epoch, values_of
from analysis.figures.style import BLUE, GREY, plot, short
from search_spaces.grammar import Pick
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import did_you_mean
from visionsweep.run_dir.load import Run

NUM_RESAMPLES = 2000
MANY = 500
LEAST_TRIALS = 3  # of an arm and of the others, for an interval
COLUMNS = [
    "value", "num_trials", "mean", "effect", "low", "high", "cohens_d", "num_lost", "num_complete", "mean_complete",
]  # fmt: skip


def compare(run: Run, parameter: str, epoch: int | None = None) -> pd.DataFrame:
    """Return a row for each value of a choice such as `optimizer`, `backbone` or `augment/rotate`, the best first.

        value          of the choice
        num_trials     trials with it
        mean           of the scores at one epoch that most trials reached (see `analysis.figures.fixed_epoch`), or at
                       `epoch`
        effect         that mean minus the mean of all other trials, in the metric's own unit
        low, high      its 95% bootstrap interval (NUM_RESAMPLES resamples); None below LEAST_TRIALS trials
        cohens_d       the effect in standard deviations
        num_lost       trials that failed, diverged or ran out of memory before that epoch
        num_complete, mean_complete   of trials trained to the end: their best scores

    A search chose the trials, so an effect includes whatever comes along with a value. Raises ConfigError for a
    parameter that was no choice in this run.
    """
    at_epoch = scores_at_epoch(run, epoch)
    return compare_of(run, at_epoch, _full_name(at_epoch, parameter))


def choices(at_epoch: ScoresAtEpoch) -> list[str]:
    """Return the parameters that can be compared: choices with trials of at least two values."""
    return [name for name, node in at_epoch.ranges.items() if isinstance(node, Pick)]


def compare_of(run: Run, at_epoch: ScoresAtEpoch, parameter: str) -> pd.DataFrame:
    values = values_of(at_epoch.table, parameter)
    scores = np.asarray(at_epoch.table["score"], dtype=float)
    broken = [trial.params.get(parameter) for trial in broken_before(run, at_epoch.epoch)]
    complete = {trial.trial_id: trial.best(run.metric, run.mode) for trial in run.trials if trial.status == "complete"}
    rows = []
    for value in dict.fromkeys(value for value in values if value is not None):
        here = np.array([one == value for one in values])
        others = np.array([one is not None and one != value for one in values])
        ends = [complete[one] for one in at_epoch.table["trial_id"][here] if one in complete]
        finals = [best[0] for best in ends if best is not None]
        rows.append(
            {
                "value": value,
                "num_trials": int(here.sum()),
                "mean": float(scores[here].mean()),
                **_effect(scores[here], scores[others]),
                "num_lost": sum(one == value for one in broken),
                "num_complete": len(finals),
                "mean_complete": float(np.mean(finals)) if finals else None,
            }
        )
    rows.sort(key=lambda row: row["mean"], reverse=run.mode == "max")
    return pd.DataFrame(rows, columns=COLUMNS)


def effects_figure(rows: list[dict[str, Any]], metric: str) -> go.Figure:
    """Plot effects with their intervals, one on each line. rows: `label` and the columns of `compare`."""
    labels = [short(row["label"], 30) for row in rows]
    clear = [row["low"] is not None and (row["low"] > 0 or row["high"] < 0) for row in rows]
    points = go.Scatter(
        x=[row["effect"] for row in rows],
        y=labels,
        mode="markers",
        marker={
            "size": 10,
            "color": [BLUE if sure else GREY for sure in clear],
            "symbol": ["circle" if sure else "circle-open" for sure in clear],
            "line": {"width": 2},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [0 if row["high"] is None else row["high"] - row["effect"] for row in rows],
            "arrayminus": [0 if row["low"] is None else row["effect"] - row["low"] for row in rows],
            "color": GREY,
            "thickness": 1.5,
            "width": 4,
        },
        customdata=[[row["num_trials"], row["mean"]] for row in rows],
        hovertemplate="%{y}: %{x:+.4g}<br>mean %{customdata[1]:.4g} of %{customdata[0]} trials<extra></extra>",
    )
    figure = plot([points], x=f"difference in {metric}", height=96 + 30 * len(rows), showlegend=False)
    figure.add_vline(x=0, line={"width": 1, "color": GREY, "dash": "dot"})
    return figure.update_yaxes(type="category", autorange="reversed", title=None)


def _effect(here: NDArray[np.float64], others: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the difference of the means, its interval, and the difference in pooled standard deviations."""
    if not len(others):
        return {"effect": 0.0, "low": None, "high": None, "cohens_d": None}
    effect = float(here.mean() - others.mean())
    if min(len(here), len(others)) < LEAST_TRIALS:
        return {"effect": effect, "low": None, "high": None, "cohens_d": None}
    rng = np.random.default_rng(0)  # a report made twice says the same

    def resampled(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(scores) > MANY:  # then the mean of a resample is normal, and the table of draws would be large
            return rng.normal(scores.mean(), scores.std() / np.sqrt(len(scores)), NUM_RESAMPLES)
        means: NDArray[np.float64] = scores[rng.integers(0, len(scores), (NUM_RESAMPLES, len(scores)))].mean(axis=1)
        return means

    low, high = np.quantile(resampled(here) - resampled(others), [0.025, 0.975])
    degrees = len(here) + len(others) - 2
    pooled = np.sqrt(((len(here) - 1) * here.var(ddof=1) + (len(others) - 1) * others.var(ddof=1)) / degrees)
    return {
        "effect": effect,
        "low": float(low),
        "high": float(high),
        "cohens_d": float(effect / pooled) if pooled > 0 else None,
    }


def _full_name(at_epoch: ScoresAtEpoch, parameter: str) -> str:
    """Return the full name of a parameter: `backbone` is `model/backbone`."""
    known = choices(at_epoch)
    if parameter in known:
        return parameter
    ending = [name for name in known if name.endswith(f"/{parameter}")]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise ConfigError(f"'{parameter}' is the end of {', '.join(ending)}. Give one of them in full.")
    if not known:
        raise ConfigError("the run has no choice of which two values have trials. Wait for more of them.")
    raise ConfigError(f"'{parameter}' was no choice in this run. {did_you_mean(parameter, known)}")


def label_of(value: Any) -> str:
    """Return a short label for a value."""
    return ("on" if value else "off") if isinstance(value, (bool, np.bool_)) else str(value)
