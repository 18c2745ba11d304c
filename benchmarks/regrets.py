"""The tables and the picture of `search.py`: mean regret, mean rank, and when ours reached the stock search's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from benchmarks.simulate import Floats

GRID = 120  # points of time in the plot and in the search for the time of being even
STOCK = ("tpe-asha-1", "tpe-asha-4")
PLAIN = ("random-asha-1", "random-asha-4")  # what a search with a model should never lose against

CLAIRVOYANT = "clairvoyant"  # the floor, without a rank

Result = Mapping[str, Any]


def regret_at(result: Result, budget: float) -> float:
    """Return the regret of one run after `budget` full trainings, 1 before anything was shown."""
    index = int(np.searchsorted(result["spent"], budget, side="right")) - 1
    return float(result["regret"][index]) if index >= 0 else 1.0


def mean_and_error(regrets: pd.DataFrame) -> tuple[float, float]:
    """Over tasks of the mean over seeds, and its standard error with the tasks taken as given.

    regrets: rows with `task` and `regret`. The error is NaN where a task has one seed only.
    """
    by_task = regrets.groupby("task")["regret"]
    variance = (by_task.var() / by_task.count()).sum(skipna=False)
    return float(by_task.mean().mean()), float(np.sqrt(variance)) / by_task.ngroups


def frame(results: Sequence[Result], budget: float) -> pd.DataFrame:
    """Return one row per run: family, task, method, workers, seed, regret at `budget`, rank among methods."""
    keys = ("task", "method", "workers", "seed")
    rows = [{**{key: result[key] for key in keys}, "regret": regret_at(result, budget)} for result in results]
    table = pd.DataFrame(rows)
    table["family"] = table["task"].str.partition("-")[0]
    ranked = table[table["method"] != CLAIRVOYANT]
    table["rank"] = ranked.groupby(["task", "workers", "seed"])["regret"].rank()  # ties share their mean rank
    return table


def tables(results: Sequence[Result], budgets: Sequence[float]) -> str:
    """Per number of workers and family, and over all: methods in order of their last regret."""
    frames = {budget: frame(results, budget) for budget in budgets}
    blocks = []
    for workers in sorted({result["workers"] for result in results}):
        for family in _families(results):
            blocks.append(_table(frames, workers, family))
            blocks[-1] += _even(results, workers, family, max(budgets))
        blocks[-1] += "".join(_worse(frames, workers, plain) for plain in PLAIN)
    return "\n\n".join(blocks)


def _families(results: Sequence[Result]) -> list[str]:
    families = sorted({result["task"].partition("-")[0] for result in results})
    return [*families, "all"] if len(families) > 1 else families


def _table(frames: Mapping[float, pd.DataFrame], workers: int, family: str) -> str:
    lines: list[tuple[float, str]] = []
    chosen = {budget: _chosen(table, workers, family) for budget, table in frames.items()}
    last = chosen[max(chosen)]
    for method, runs in last.groupby("method"):
        cells = [mean_and_error(table[table["method"] == method]) for table in chosen.values()]
        regrets = "  ".join(f"{mean:.3f} ± {error:.3f}" for mean, error in cells).replace("nan", "  –  ")
        # Mean ranks compare only methods that ran on the same tasks with the same seeds.
        rank = f"{runs['rank'].mean():6.2f}".replace("nan", "  –")
        lines.append((cells[-1][0], f"{method!s:<20} {regrets}  {rank} {len(runs):6d}"))
    heads = "  ".join(f"{f'regret at {budget:g}':>13}" for budget in chosen)
    title = f"{family}, {last['task'].nunique()} tasks, {workers} workers"
    return "\n".join([title, f"{'method':<20} {heads}  {'rank':>6} {'runs':>6}", *(text for _, text in sorted(lines))])


def _chosen(table: pd.DataFrame, workers: int, family: str) -> pd.DataFrame:
    return table[(table["workers"] == workers) & ((table["family"] == family) | (family == "all"))]


def _even(results: Sequence[Result], workers: int, family: str, budget: float) -> str:
    """Return when our mean regret first equalled the stock search's at the end, as a share of the budget."""
    times = np.linspace(0, budget, GRID + 1)
    ours = _mean_over_time(results, "ours", workers, family, times)
    lines = ""
    for stock in STOCK:
        theirs = _mean_over_time(results, stock, workers, family, times[-1:])
        if ours is None or theirs is None:
            continue
        reached = times[ours[0] <= theirs[0][-1]]
        when = f"after {reached[0] / budget:.0%} of the budget" if len(reached) else "not within the budget"
        lines += f"\nours was where {stock} ended {when}"
    return lines


def _worse(frames: Mapping[float, pd.DataFrame], workers: int, plain: str) -> str:
    """Return the tasks on which ours is worse than `plain` at each budget, by Welch's test over the seeds at 5%."""
    lines = ""
    for budget, table in frames.items():
        here = table[table["workers"] == workers]
        worse: list[str] = []
        tested = 0
        for task, runs in here.groupby("task"):
            ours, theirs = (runs.loc[runs["method"] == method, "regret"] for method in ("ours", plain))
            if min(len(ours), len(theirs)) < 2:
                continue
            tested += 1
            test = ttest_ind(ours, theirs, equal_var=False, alternative="greater")
            if test.pvalue < 0.05:
                worse.append(f"{task} ({ours.mean():.3f} against {theirs.mean():.3f}, p {test.pvalue:.3f})")
        if tested:
            named = ", ".join(worse) or "none"
            lines += f"\nours significantly worse than {plain} at {budget:g}, of {tested} tasks: {named}"
    return lines


def _mean_over_time(
    results: Sequence[Result], method: str, workers: int, family: str, times: Floats
) -> tuple[Floats, Floats] | None:
    """Return (mean, standard error), each (len(times),), over the tasks of a family, or None without any run."""
    runs = [
        result
        for result in results
        if (result["method"], result["workers"]) == (method, workers)
        and (family == "all" or result["task"].startswith(f"{family}-"))
    ]
    if not runs:
        return None
    tasks = [result["task"] for result in runs]
    curves = np.array([[regret_at(result, t) for t in times] for result in runs])
    points = [mean_and_error(pd.DataFrame({"task": tasks, "regret": column})) for column in curves.T]
    means, errors = zip(*points, strict=True)
    return np.array(means), np.array(errors)


def plot(results: Sequence[Result], budget: float, path: Path) -> None:
    """Write an HTML page of the mean regret over time by method, with bands of one standard error."""
    import plotly.express as px
    from plotly.subplots import make_subplots

    families = _families(results)
    all_workers = sorted({result["workers"] for result in results})
    methods = sorted({result["method"] for result in results})
    colours = (px.colors.qualitative.Dark24 * len(methods))[: len(methods)]
    titles = [f"{family}, {workers} workers" for workers in all_workers for family in families]
    figure = make_subplots(len(all_workers), len(families), subplot_titles=titles)
    times = np.linspace(0, budget, GRID + 1)
    for row, workers in enumerate(all_workers, start=1):
        for column, family in enumerate(families, start=1):
            for method, colour in zip(methods, colours, strict=True):
                found = _mean_over_time(results, method, workers, family, times)
                if found is None:
                    continue
                place: dict[str, Any] = {"row": row, "col": column}
                line = {"color": colour, "width": 4 if method == "ours" else 2}
                shown = (row, column) == (1, 1)
                figure.add_scatter(
                    x=times, y=found[0], name=method, line=line, legendgroup=method, showlegend=shown, **place
                )
                low = found[0] - found[1]
                high = found[0] + found[1]
                if np.isfinite(low).all():
                    figure.add_scatter(
                        x=[*times, *times[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=colour, opacity=0.15,
                        line={"width": 0}, legendgroup=method, showlegend=False, hoverinfo="skip", **place,
                    )  # fmt: skip
    figure.update_xaxes(title_text="full trainings spent")
    figure.update_yaxes(title_text="regret", type="log")
    figure.update_layout(height=420 * len(all_workers), template="plotly_white")
    figure.write_html(path)
