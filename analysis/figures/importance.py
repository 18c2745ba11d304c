"""Importance of parameters for how trials compare: Optuna's PED-ANOVA and fANOVA over the records of a run.

This is the only file of `analysis/` that imports optuna, and only for its evaluation of finished studies.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from optuna import logging
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.study import Study, create_study
from optuna.trial import FrozenTrial, create_trial

from analysis.figures.chances import holm, p_value_of_groups
from analysis.figures.fixed_epoch import LEAST_TRIALS, ScoresAtEpoch, scores_at_epoch, values_of
from analysis.figures.style import BLUE, GREY, plot, short
from search_spaces.grammar import Float, Int, Pick
from search_spaces.regimes import readable
from visionsweep.run_dir.run import Run

MOST_TRIALS = 600  # beyond it fANOVA's forest takes many seconds for the same result
NUM_PARTS = 3  # of a number's values, to be tested like a choice
CLEAR = 0.05
SHOWN = 14


def importance(run: Run, epoch: int | None = None) -> pd.DataFrame:
    """Return a row for each parameter, those above chance first, the strongest first.

        parameter   its name
        ped_anova   its share in whether a trial is among the best tenth (Watanabe et al. 2023, arXiv:2304.10255); in a
                    small run, among the best five
        fanova      its share of the variance of the score (Hutter et al. 2014); None for a parameter that some trials
                    do not have
        p_holm      of a permutation test that the parameter changes nothing (numbers by thirds of their trials),
                    corrected for the number of parameters (Holm 1979); below CLEAR it stands above chance
        num_trials  that have the parameter

    A trial's score is the share of the other trials that it beats (see `analysis.figures.fixed_epoch`), with `epoch` by
    their scores at it. The table is empty if fewer than LEAST_TRIALS trials can be compared.
    """
    return importance_of(scores_at_epoch(run, epoch))


def importance_of(at_epoch: ScoresAtEpoch) -> pd.DataFrame:
    table = at_epoch.table.iloc[-MOST_TRIALS:]
    columns = ["parameter", "ped_anova", "fanova", "p_holm", "num_trials"]
    if len(table) < LEAST_TRIALS or not at_epoch.ranges:
        return pd.DataFrame(columns=columns)
    with _quiet():
        study = _study(table, at_epoch.ranges)
        scores = -np.asarray(table["score"], dtype=float)  # lower is better
        quantile = min(0.5, max(0.1, 5 / len(scores)))
        evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
        ped = evaluator.evaluate(study, target=_dealt(scores))
        in_all = [name for name in at_epoch.ranges if all(name in trial.params for trial in study.get_trials(False))]
        forest = FanovaImportanceEvaluator(n_trees=32, seed=0)
        fanova = forest.evaluate(study, params=in_all, target=_dealt(scores)) if in_all else {}
    total = sum(ped.values()) or 1.0
    variance = sum(fanova.values()) or 1.0
    rows: list[dict[str, Any]] = [
        {
            "parameter": name,
            "ped_anova": ped.get(name, 0.0) / total,
            "fanova": fanova[name] / variance if name in fanova else None,
            "p_holm": p_value,
            "num_trials": sum(value is not None for value in values_of(table, name)),
        }
        for name, p_value in zip(
            at_epoch.ranges, holm([_p_value(at_epoch, name) for name in at_epoch.ranges]), strict=True
        )
    ]
    rows.sort(key=lambda row: (row["p_holm"] >= CLEAR, -row["ped_anova"]))
    return pd.DataFrame(rows, columns=columns)


def strongest(found: pd.DataFrame, count: int) -> list[str]:
    """Return the parameters to look at more closely, by both measures in turn."""
    by_variance = found.dropna(subset=["fanova"]).sort_values("fanova", ascending=False)
    pairs = zip_longest(found["parameter"], by_variance["parameter"])
    return list(dict.fromkeys(name for pair in pairs for name in pair if name is not None))[:count]


def above_chance(found: pd.DataFrame) -> list[str]:
    """Return the parameters that change how trials compare by more than chance."""
    return [str(name) for name in found[found["p_holm"] < CLEAR]["parameter"]]


def importance_figure(found: pd.DataFrame) -> go.Figure:
    """Plot both measures as bars, the strongest parameter on top, and those above chance in colour."""
    shown = found[found["parameter"].isin(strongest(found, SHOWN))].iloc[::-1]
    names = [short(readable(name), 34) for name in shown["parameter"]]
    clear = (shown["p_holm"] < CLEAR).tolist()
    told = list(zip(shown["num_trials"], (f"{p_value:.2g}" for p_value in shown["p_holm"]), strict=True))
    return plot(
        [
            go.Bar(
                x=shown["fanova"], y=names, orientation="h", name="over all trials (fANOVA)", customdata=told,
                marker={"color": GREY, "pattern": {"shape": "/"}},
                hovertemplate="%{y}<br>%{x:.0%} of the variance, p = %{customdata[1]}<extra></extra>",
            ),
            go.Bar(
                x=shown["ped_anova"], y=names, orientation="h", name="to be among the best (PED-ANOVA)",
                marker_color=[BLUE if sure else GREY for sure in clear], customdata=told,
                hovertemplate="%{y}<br>%{x:.0%}, %{customdata[0]} trials, p = %{customdata[1]}<extra></extra>",
            ),
        ],
        x="importance", height=120 + 30 * len(shown), barmode="group", bargap=0.3,
        xaxis={"title": {"text": "importance"}, "tickformat": ".0%", "rangemode": "tozero"},
    )  # fmt: skip


def _p_value(at_epoch: ScoresAtEpoch, name: str) -> float:
    """Return the p-value that trials compare alike whatever the parameter is, 1 where few have it."""
    values = values_of(at_epoch.table, name)
    having = np.array([value is not None for value in values], dtype=bool)
    listed = [value for value in values if value is not None]
    if len(listed) < LEAST_TRIALS:
        return 1.0
    kinds = list(dict.fromkeys(listed))
    if isinstance(at_epoch.ranges[name], Pick) or len(kinds) <= NUM_PARTS:
        labels = [kinds.index(value) for value in listed]
    else:
        order = np.searchsorted(np.sort(np.array(listed, dtype=float)), np.array(listed, dtype=float))
        labels = (order * NUM_PARTS // len(listed)).tolist()  # equal values are in one part
    return p_value_of_groups(at_epoch.pairs[np.ix_(having, having)], labels)


def _study(table: pd.DataFrame, ranges: dict[str, Float | Int | Pick]) -> Study:
    distributions = {name: _distribution(node) for name, node in ranges.items()}
    columns = {name: values_of(table, name) for name in ranges}
    study = create_study(direction="minimize")
    for row in range(len(table)):
        having = {name: column[row] for name, column in columns.items() if column[row] is not None}
        study.add_trial(
            create_trial(
                value=0.0,  # each evaluation gets its scores as a target
                params={name: _on_scale(value, ranges[name]) for name, value in having.items()},
                distributions={name: distributions[name] for name in having},
            )
        )
    return study


def _distribution(node: Float | Int | Pick) -> BaseDistribution:
    if isinstance(node, Pick):
        return CategoricalDistribution(node.choices)
    return FloatDistribution(_on_scale(node.low, node), _on_scale(node.high, node))


def _on_scale(value: Any, node: Float | Int | Pick) -> Any:
    """Return the logarithm of a value drawn on a log scale: fANOVA measures by the length of intervals."""
    if isinstance(node, Pick):
        return value
    return math.log10(value) if node.log else float(value)


def _dealt(scores: np.ndarray[Any, np.dtype[np.float64]]) -> Callable[[FrozenTrial], float]:
    return lambda trial: float(scores[trial.number])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's messages on new studies and on the direction of targets.

    It assumes that lower targets are better, and ours are.
    """
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
