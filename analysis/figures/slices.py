"""Plots of one parameter against the score, two against it, and many at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.figures.compare import label_of
from analysis.figures.fixed_epoch import NUMBERS, ScoresAtEpoch, values_of
from analysis.figures.style import BEST, GREY, RISING, plot, safe, short, status_colour
from search_spaces.grammar import Float, Int, Pick
from search_spaces.regimes import readable

MOST_POINTS = 2000
LEAST_POINTS = 12  # for a surface
GRID = 28
BANDWIDTH = 0.12  # of a parameter's range
MOST_LINES = 250
BEATS = "other trials that it beats"


def slice_figure(at_epoch: ScoresAtEpoch, name: str) -> go.Figure:
    """Plot how many others every trial beats over one parameter, on its log scale or in columns of a choice.

    The points carry their trial's id.
    """
    node = at_epoch.ranges[name]
    table = at_epoch.table.iloc[-MOST_POINTS:]
    values = values_of(table, name)
    scores = table["score"].tolist()
    bests = table["best"].tolist()
    statuses = table["status"].tolist()
    ids = table["trial_id"].tolist()
    having = [row for row, value in enumerate(values) if value is not None]
    traces: list[Any] = []
    for status in dict.fromkeys(statuses):
        rows = [row for row in having if statuses[row] == status]
        traces.append(
            go.Scatter(
                x=[_place(values[row], node, row) for row in rows],
                y=[scores[row] for row in rows],
                mode="markers",
                name=status,
                marker={"color": status_colour(status), "size": 7, "opacity": 0.75},
                customdata=[[ids[row], short(values[row]), _amount(bests[row])] for row in rows],
                hovertemplate="trial %{customdata[0]}<br>%{customdata[1]}<br>best %{customdata[2]}, beats %{y:.0%}"
                "<extra></extra>",
            )
        )
    figure = plot(traces, x=readable(name), y=BEATS, height=320, xaxis=_axis(name, node))
    return figure.update_yaxes(range=[-0.05, 1.05], tickformat=".0%")


def contour_pairs(at_epoch: ScoresAtEpoch, names: list[str], count: int = 3) -> list[tuple[str, str]]:
    """Return pairs of numbers among `names` that enough trials both have, in the order of `names`."""
    numbers = [name for name in names if isinstance(at_epoch.ranges.get(name), NUMBERS)]
    pairs = [(one, other) for number, other in enumerate(numbers) for one in numbers[:number]]
    return [pair for pair in pairs if len(_both(at_epoch, *pair)[0]) >= LEAST_POINTS][:count]


def contour_figure(at_epoch: ScoresAtEpoch, one: str, other: str) -> go.Figure:
    """Plot how many others trials beat over two numbers: the mean of nearby trials (Nadaraya-Watson), else empty."""
    rows, points = _both(at_epoch, one, other)
    scores = np.asarray(at_epoch.table["score"].iloc[rows], dtype=float)
    scale = np.linspace(0, 1, GRID)
    grid = np.stack(np.meshgrid(scale, scale), axis=-1)  # (GRID, GRID, 2): y, x, (x and y in [0, 1])
    distances = ((grid[:, :, None, :] - points[None, None]) ** 2).sum(axis=-1)  # (GRID, GRID, points)
    weights = np.exp(-distances / (2 * BANDWIDTH**2))
    total = weights.sum(axis=-1)
    surface = np.where(total > 0.3, (weights @ scores) / np.maximum(total, 1e-12), np.nan)
    nodes = at_epoch.ranges[one], at_epoch.ranges[other]
    x, y = ([_value_at(share, node) for share in scale] for node in nodes)
    at = [[_value_at(float(share), node) for share in points[:, axis]] for axis, node in enumerate(nodes)]
    hover = [[trial_id, score] for trial_id, score in zip(at_epoch.table["trial_id"].iloc[rows], scores, strict=True)]
    return plot(
        [
            go.Contour(
                x=x, y=y, z=surface, colorscale=RISING, contours={"coloring": "heatmap"},
                line={"width": 0.5, "color": GREY}, hoverinfo="skip",
                colorbar={"thickness": 10, "outlinewidth": 0, "tickformat": ".0%"},
            ),
            go.Scatter(
                x=at[0], y=at[1], mode="markers", customdata=hover,
                marker={"size": 6, "color": "#ffffff", "line": {"width": 1, "color": "#333333"}},
                hovertemplate="trial %{customdata[0]}<br>%{x:.3g}, %{y:.3g}<br>beats %{customdata[1]:.0%}"
                "<extra></extra>",
            ),
        ],
        height=340, showlegend=False, xaxis=_axis(one, nodes[0]), yaxis=_axis(other, nodes[1]),
    )  # fmt: skip


def parallel_figure(at_epoch: ScoresAtEpoch, names: list[str]) -> go.Figure:
    """Plot a line for each trial through its parameters to how many others it beats, with the best tenth coloured.

    A parameter that a trial does not have is drawn below the axis. Of very many trials the best are drawn, and the
    others are evenly thinned out.
    """
    best_first = at_epoch.table.sort_values("score", ascending=False, kind="stable")
    num_best = max(1, round(len(best_first) * 0.1))
    num_shown = min(num_best, MOST_LINES // 3)
    rest = best_first.iloc[num_best:]
    step = max(1, math.ceil(len(rest) / (MOST_LINES - num_shown)))
    groups = [("others", GREY, 0.35, 1.0, rest.iloc[::step]), ("best tenth", BEST, 0.9, 1.8, best_first[:num_shown])]
    axes = [*names, "beats"]
    traces: list[Any] = []
    for title, colour, opacity, width, table in groups:
        columns = [[_height(value, at_epoch.ranges[name]) for value in values_of(table, name)] for name in names]
        columns.append(table["score"].tolist())
        x = [*range(len(axes)), None] * len(table)
        y = [height for line in zip(*columns, strict=True) for height in (*line, None)]
        traces.append(
            go.Scatter(
                x=x, y=y, mode="lines", name=title, opacity=opacity, line={"color": colour, "width": width},
                hoverinfo="skip",
            )
        )  # fmt: skip
    figure = plot(traces, height=430, hovermode=False)
    figure.update_xaxes(
        tickvals=list(range(len(axes))), ticktext=[short(readable(name).replace("/", " "), 22) for name in axes],
        showgrid=True, zeroline=False, range=[-0.4, len(axes) - 0.6],
    )  # fmt: skip
    figure.update_yaxes(visible=False, range=[-0.2, 1.08])
    for place, name in enumerate(axes):
        for height, text in _marks(at_epoch.ranges[name]) if name in at_epoch.ranges else ((0, "0%"), (1, "100%")):
            figure.add_annotation(
                x=place, y=height, text=safe(text), showarrow=False, xanchor="left", xshift=3, font={"size": 10}
            )
    return figure


def _both(at_epoch: ScoresAtEpoch, one: str, other: str) -> tuple[list[int], np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the rows of trials that have both numbers, and their positions (n, 2) in [0, 1]."""
    pairs = list(zip(values_of(at_epoch.table, one), values_of(at_epoch.table, other), strict=True))
    rows = [row for row, pair in enumerate(pairs) if None not in pair][-MOST_POINTS:]
    nodes = at_epoch.ranges[one], at_epoch.ranges[other]
    return rows, np.array([[_share(pairs[row][axis], nodes[axis]) for axis in (0, 1)] for row in rows], dtype=float)


def _amount(best: Any) -> str:
    """Return a trial's best score as text, or that it has none."""
    return "no score" if best is None or best != best else f"{best:.4g}"


def _share(value: Any, node: Float | Int | Pick) -> float:
    """Return the position of a value in its range, in [0, 1]."""
    if isinstance(node, Pick):
        return node.choices.index(value) / max(1, len(node.choices) - 1)
    low = float(node.low)
    high = float(node.high)
    if node.log:
        low = math.log(low)
        high = math.log(high)
        value = math.log(value)
    return (float(value) - low) / ((high - low) or 1.0)


def _value_at(share: float, node: Float | Int | Pick) -> float:
    assert not isinstance(node, Pick)
    low = float(node.low)
    high = float(node.high)
    return low * (high / low) ** share if node.log else low + share * (high - low)


def _height(value: Any, node: Float | Int | Pick) -> float:
    return -0.14 if value is None else _share(value, node)


def _marks(node: Float | Int | Pick) -> list[tuple[float, str]]:
    if isinstance(node, Pick):
        return [(_share(choice, node), short(label_of(choice), 14)) for choice in node.choices]
    return [(share, f"{_value_at(share, node):.2g}") for share in (0.0, 0.5, 1.0)]


def _place(value: Any, node: Float | Int | Pick, row: int) -> float:
    """Return the position on the axis. Trials of one choice are spread a little, to keep them apart."""
    return node.choices.index(value) + 0.24 * math.sin(row * 12.9898) if isinstance(node, Pick) else float(value)


def _axis(name: str, node: Float | Int | Pick) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": safe(readable(name)), "standoff": 8}, "automargin": True}
    if isinstance(node, Pick):
        labels = [short(label_of(choice), 18) for choice in node.choices]
        return {**axis, "tickvals": list(range(len(labels))), "ticktext": labels, "range": [-0.5, len(labels) - 0.5]}
    return {**axis, "type": "log", "exponentformat": "power", "dtick": 1} if node.log else axis
