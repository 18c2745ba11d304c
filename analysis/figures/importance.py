"""Importance of parameters for the score: Optuna's PED-ANOVA and fANOVA over the records of a run.

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

from analysis.figures.fixed_epoch import ScoresAtEpoch, scores_at_epoch, values_of
from analysis.figures.style import BLUE, GREY, ORANGE, plot, short
from search_spaces.grammar import Float, Int, Pick
from search_spaces.regimes import readable
from visionsweep.run_dir.load import Run

LEAST_TRIALS = 10
MOST_TRIALS = 600  # beyond it fANOVA's forest takes many seconds for the same result
NUM_SHUFFLES = 12
LEAST_SHARE = 0.01
SHOWN = 14


def importance(run: Run, epoch: int | None = None) -> pd.DataFrame:
    """Return a row for each parameter, those above chance first, the strongest first.

        parameter   its name
        ped_anova   its share in whether a trial is among the best tenth (Watanabe et al. 2023, arXiv:2304.10255); in a
                    small run, among the best five
        by_chance   the highest ped_anova in NUM_SHUFFLES tries with shuffled scores: a value below it means nothing
        fanova      its share of the variance of the score (Hutter et al. 2014); None for a parameter that some trials
                    do not have
        num_trials  that have the parameter

    The table is empty if fewer than LEAST_TRIALS trials can be compared.
    """
    return importance_of(scores_at_epoch(run, epoch), run.mode)


def importance_of(at_epoch: ScoresAtEpoch, mode: str) -> pd.DataFrame:
    table = at_epoch.table.iloc[-MOST_TRIALS:]
    columns = ["parameter", "ped_anova", "by_chance", "fanova", "num_trials"]
    if len(table) < LEAST_TRIALS or not at_epoch.ranges:
        return pd.DataFrame(columns=columns)
    with _quiet():
        study = _study(table, at_epoch.ranges)
        scores = np.asarray(table["score"], dtype=float) * (-1 if mode == "max" else 1)  # lower is better
        quantile = min(0.5, max(0.1, 5 / len(scores)))
        evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
        ped = evaluator.evaluate(study, target=_dealt(scores))
        rng = np.random.default_rng(0)
        by_chance = [evaluator.evaluate(study, target=_dealt(rng.permutation(scores))) for _ in range(NUM_SHUFFLES)]
        in_all = [name for name in at_epoch.ranges if all(name in trial.params for trial in study.get_trials(False))]
        forest = FanovaImportanceEvaluator(n_trees=32, seed=0)
        fanova = forest.evaluate(study, params=in_all, target=_dealt(scores)) if in_all else {}
    total = sum(ped.values()) or 1.0
    variance = sum(fanova.values()) or 1.0
    rows: list[dict[str, Any]] = [
        {
            "parameter": name,
            "ped_anova": ped.get(name, 0.0) / total,
            "by_chance": max(tried.get(name, 0.0) for tried in by_chance) / total,
            "fanova": fanova[name] / variance if name in fanova else None,
            "num_trials": sum(value is not None for value in values_of(table, name)),
        }
        for name in at_epoch.ranges
    ]
    rows.sort(key=lambda row: (row["ped_anova"] <= max(row["by_chance"], LEAST_SHARE), -row["ped_anova"]))
    return pd.DataFrame(rows, columns=columns)


def strongest(found: pd.DataFrame, count: int) -> list[str]:
    """Return the parameters to look at more closely, by both measures in turn."""
    by_variance = found.dropna(subset=["fanova"]).sort_values("fanova", ascending=False)
    pairs = zip_longest(found["parameter"], by_variance["parameter"])
    return list(dict.fromkeys(name for pair in pairs for name in pair if name is not None))[:count]


def above_chance(found: pd.DataFrame) -> list[str]:
    """Return the parameters whose importance is above chance, and not negligible."""
    clear = found[(found["ped_anova"] > found["by_chance"]) & (found["ped_anova"] >= LEAST_SHARE)]
    return [str(name) for name in clear["parameter"]]


def importance_figure(found: pd.DataFrame) -> go.Figure:
    """Plot both measures as bars, the strongest parameter on top, with the level of chance."""
    shown = found[found["parameter"].isin(strongest(found, SHOWN))].iloc[::-1]
    names = [short(readable(name), 34) for name in shown["parameter"]]
    longest = 1.1 * float(max(shown["ped_anova"].max(), shown["fanova"].fillna(0.0).max()))
    return plot(
        [
            go.Bar(
                x=shown["fanova"], y=names, orientation="h", name="fANOVA", marker_color=GREY,
                hovertemplate="%{y}<br>%{x:.0%} of the variance<extra>fANOVA</extra>",
            ),
            go.Bar(
                x=shown["ped_anova"], y=names, orientation="h", name="PED-ANOVA", marker_color=BLUE,
                customdata=shown["num_trials"],
                hovertemplate="%{y}<br>%{x:.0%}, %{customdata} trials<extra>PED-ANOVA</extra>",
            ),
            go.Scatter(
                x=shown["by_chance"].clip(upper=longest), y=names, mode="markers", name="PED-ANOVA by chance",
                customdata=shown["by_chance"],
                marker={"symbol": "line-ns-open", "size": 14, "color": ORANGE, "line": {"width": 2}},
                hovertemplate="%{y}<br>%{customdata:.0%} with the scores dealt out at random<extra></extra>",
            ),
        ],
        x="importance", height=120 + 30 * len(shown), barmode="group", bargap=0.3,
        xaxis={"title": {"text": "importance"}, "tickformat": ".0%", "range": [0, longest]},
    )  # fmt: skip


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
