"""Figures of confusions and per-class scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.figures.style import BLUE, GREY, RISING, plot, short

MOST_CLASSES = 30
MOST_WITH_SHARES = 8  # of more classes, a cell has no room for both


def confusion_figure(matrix: NDArray[np.int64], classes: tuple[str, ...], unit: str = "images") -> go.Figure:
    """Plot shares of each true class, with the counts. Of very many classes, those with the most mistakes are shown."""
    chosen = np.arange(len(classes))
    if len(classes) > MOST_CLASSES:
        mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
        chosen = np.sort(np.argsort(-mistakes, kind="stable")[:MOST_CLASSES])
    counts = matrix[np.ix_(chosen, chosen)]
    totals = matrix.sum(axis=1)[chosen]
    shares = counts / np.maximum(totals, 1)[:, None]
    names = [short(classes[i], 20) for i in chosen]
    # Axes by number: two classes whose names are shortened to the same letters must not become one.
    places = list(range(len(names)))
    percent = np.vectorize("{:.0%}".format, otypes=[str])(shares)
    text: Any = percent if unit != "images" else counts
    if unit == "images" and len(names) <= MOST_WITH_SHARES:
        # A share of the row: 17 of 27 and 170 of 270 are equally good.
        text = [[f"{count}<br>{share}" if count else "0" for count, share in zip(*row, strict=True)]
                for row in zip(counts.tolist(), percent.tolist(), strict=True)]  # fmt: skip
    heat = go.Heatmap(
        z=shares, x=places, y=places, colorscale=RISING, zmin=0, zmax=1,
        text=text, texttemplate="%{text}" if len(names) <= 15 else None, hoverongaps=False, showscale=False,
        customdata=[[[f"{names[row]} → {names[column]}", int(count)] for column, count in enumerate(counts[row])]
                    for row in places],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]} " + unit + ", %{z:.0%} of the class<extra></extra>",
        xgap=1, ygap=1,
    )  # fmt: skip
    figure = plot([heat], x="predicted", y="truth", height=min(760, 160 + 40 * len(names)))
    # Rotated, the last name reaches a little beyond the picture, and would be left out.
    figure.update_xaxes(
        tickvals=places, ticktext=names, ticklabeloverflow="allow", tickangle=-45, showgrid=False, zeroline=False
    )
    return figure.update_yaxes(tickvals=places, ticktext=names, autorange="reversed", showgrid=False, zeroline=False)


def class_bars(table: pd.DataFrame, score: str, title: str) -> go.Figure:
    """Plot one score for each class, the best on top. table: `class`, `score`, and perhaps `num_images`."""
    rows = table.dropna(subset=[score]).sort_values(score, kind="stable").tail(60)
    names = [short(name, 26) for name in rows["class"]]
    places = list(range(len(names)))
    counts = rows["num_images"].tolist() if "num_images" in rows else [None] * len(rows)
    bars = go.Bar(
        x=rows[score], y=places, orientation="h", marker_color=[BLUE if value > 0 else GREY for value in rows[score]],
        text=[f"{value:.2f}" for value in rows[score]], textposition="outside", cliponaxis=False,
        customdata=[[name, f", {count} images" if count else ""] for name, count in zip(names, counts, strict=True)],
        hovertemplate="%{customdata[0]}: %{x:.3f}%{customdata[1]}<extra></extra>",
    )  # fmt: skip
    figure = plot([bars], x=title, height=100 + 22 * len(names), showlegend=False)
    figure.update_xaxes(range=[0, 1.08])
    return figure.update_yaxes(tickvals=places, ticktext=names, showgrid=False)
