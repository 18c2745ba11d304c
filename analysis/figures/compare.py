"""Comparison of the values of one choice: optimizers, schedules, backbones, augmentations on and off.

It goes by the order of the trials (`analysis/figures/order.py`): how likely is it that a trial with a value beats one
with another?
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.chances import Mask, chance, holm, interval, p_values
from analysis.figures.fixed_epoch import ScoresAtEpoch, broken_before, scores_at_epoch, values_of
from analysis.figures.style import BLUE, GREY, plot, short
from search_spaces.grammar import Pick
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import did_you_mean
from visionsweep.run_dir.run import Run

LEAST_OF_VALUE = 5  # and as many of others: below, a value has neither interval nor test
CLEAR = 0.05
COLUMNS = [
    "value", "num_trials", "num_others", "chance", "low", "high", "p_value", "p_holm", "num_complete", "mean_complete",
    "num_lost",
]  # fmt: skip


def compare(run: Run, parameter: str, epoch: int | None = None) -> pd.DataFrame:
    """Return a row for each value of a choice such as `optimizer`, `backbone` or `augment/rotate`, the best first.

        value          of the choice
        num_trials     trials with it that can be compared
        num_others     those with another value
        chance         that a trial with the value beats one with another value. A trial that was ended early is below
                       those that passed its rung (see `analysis.figures.order`). With `epoch`, scores at it decide
        low, high      its 95% interval; None below LEAST_OF_VALUE trials on either side
        p_value        of a permutation test that the value is as good as the others; None likewise
        p_holm         corrected for the number of values that are tested here (Holm 1979)
        num_complete, mean_complete   of trials trained to the end: their best scores
        num_lost       trials with it that failed or ran out of memory: they are not compared

    A search chose the trials, so whatever comes along with a value is part of it. Raises ConfigError for a parameter
    that was no choice in this run.
    """
    at_epoch = scores_at_epoch(run, epoch)
    return compare_of(run, at_epoch, _full_name(at_epoch, parameter))


def choices(at_epoch: ScoresAtEpoch) -> list[str]:
    """Return the parameters that can be compared: choices with trials of at least two values."""
    return [name for name, node in at_epoch.ranges.items() if isinstance(node, Pick)]


def compare_of(run: Run, at_epoch: ScoresAtEpoch, parameter: str) -> pd.DataFrame:
    broken = [trial.params.get(parameter) for trial in broken_before(run)]
    complete = {trial.trial_id: trial.best(run.metric, run.mode) for trial in run.trials if trial.status == "complete"}
    rows = []
    for one in corrected(compared(at_epoch, parameter)):
        ends = [complete[trial_id] for trial_id in one.trial_ids if trial_id in complete]
        finals = [best[0] for best in ends if best is not None]
        rows.append(
            {
                "value": one.value,
                "num_trials": one.num_trials,
                "num_others": one.num_others,
                "chance": one.chance,
                "low": one.low,
                "high": one.high,
                "p_value": one.p_value if one.is_tested else None,
                "p_holm": one.p_holm if one.is_tested else None,
                "num_complete": len(finals),
                "mean_complete": float(np.mean(finals)) if finals else None,
                "num_lost": sum(value == one.value for value in broken),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True)
class Compared:
    """A value of a choice beside the others.

    num_values  of the choice; with two of them, one test answers for both
    p_holm      p_value corrected for the tests beside it, where `corrected` did so
    """

    parameter: str
    value: Any
    label: str
    trial_ids: tuple[str, ...]
    num_others: int
    num_values: int
    chance: float
    low: float | None
    high: float | None
    p_value: float
    p_holm: float = 1.0

    @property
    def num_trials(self) -> int:
        return len(self.trial_ids)

    @property
    def is_tested(self) -> bool:
        return self.low is not None

    @property
    def is_clear(self) -> bool:
        return self.is_tested and self.p_holm < CLEAR


def compared(at_epoch: ScoresAtEpoch, parameter: str) -> list[Compared]:
    """Return the values of a choice, the one that wins most of its pairs first."""
    values = values_of(at_epoch.table, parameter)
    having = np.array([value is not None for value in values], dtype=bool)
    pairs = at_epoch.pairs[np.ix_(having, having)]
    ids = at_epoch.table["trial_id"][having].tolist()
    listed = [value for value in values if value is not None]
    kinds = list(dict.fromkeys(listed))
    masks: list[Mask] = [np.array([value == kind for value in listed], dtype=bool) for kind in kinds]
    rows = []
    for kind, here, p_value in zip(kinds, masks, p_values(pairs, masks), strict=True):
        num_here = int(here.sum())
        num_others = len(listed) - num_here
        if not num_others:
            continue
        share = chance(pairs, here)
        is_tested = min(num_here, num_others) >= LEAST_OF_VALUE
        low, high = interval(share, num_here, num_others) if is_tested else (None, None)
        own = tuple(trial_id for trial_id, is_here in zip(ids, here, strict=True) if is_here)
        rows.append(Compared(parameter, kind, label_of(kind), own, num_others, len(kinds), share, low, high, p_value))
    return sorted(rows, key=lambda row: -row.chance)


def corrected(found: list[Compared]) -> list[Compared]:
    """Return the comparisons with p-values corrected for the number of tests among them (Holm 1979)."""

    def test_of(one: Compared) -> tuple[str, Any]:
        return one.parameter, None if one.num_values == 2 else one.value

    tests = {test_of(one): one.p_value for one in found if one.is_tested}
    by_test = dict(zip(tests, holm(list(tests.values())), strict=True))
    return [replace(one, p_holm=by_test[test_of(one)]) if one.is_tested else one for one in found]


def same_trials(found: list[Compared]) -> list[Compared]:
    """Return the comparisons with those of the very same trials as one: nothing tells them apart."""
    groups: dict[tuple[str, ...], list[Compared]] = {}
    for one in found:
        groups.setdefault(one.trial_ids, []).append(one)
    return [replace(group[0], label=", ".join(one.label for one in group)) for group in groups.values()]


def effects_figure(rows: list[Compared]) -> go.Figure:
    """Plot chances with their intervals, one on each line, with the number of trials at its label."""
    labels = [f"{short(row.label, 30)} ({row.num_trials})" for row in rows]
    points = go.Scatter(
        x=[row.chance for row in rows],
        y=labels,
        mode="markers",
        marker={
            "size": 10,
            "color": [BLUE if row.is_clear else GREY for row in rows],
            "symbol": ["circle" if row.is_clear else "circle-open" for row in rows],
            "line": {"width": 2},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [(row.high or row.chance) - row.chance for row in rows],
            "arrayminus": [row.chance - (row.low or 0.0) for row in rows],
            "color": GREY,
            "thickness": 1.5,
            "width": 4,
        },
        customdata=[[row.num_trials, row.num_others, f"{row.p_holm:.2g}"] for row in rows],
        hovertemplate="%{y}: beats another in %{x:.0%} of pairs<br>%{customdata[0]} trials against %{customdata[1]}, "
        "p = %{customdata[2]}<extra></extra>",
    )
    figure = plot([points], x="chance to beat another value", height=96 + 30 * len(rows), showlegend=False)
    figure.add_vline(x=0.5, line={"width": 1, "color": GREY, "dash": "dot"})
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    return figure.update_yaxes(type="category", autorange="reversed", title=None)


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
