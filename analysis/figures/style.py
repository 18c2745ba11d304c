"""Style of every figure: colour-blind safe colours, on a white and on a dark page alike."""

from __future__ import annotations

import html
from typing import Any

import plotly.graph_objects as go

# Okabe and Ito's colours, the light ones darkened. Each has a contrast of 3 or more to both pages.
BLUE = "#1F78B4"
ORANGE = "#D55E00"
GREEN = "#009E73"
PINK = "#C0649B"
AMBER = "#A87900"
GREY = "#7F868F"
SKY = "#3A93C3"
BROWN = "#9A6450"
PALETTE = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY, GREY)
SYMBOLS = ("circle", "diamond", "square", "cross", "x", "triangle-up", "star")
STATUS_COLOURS = {
    "complete": BLUE,
    "pruned": GREY,
    "running": GREEN,
    "interrupted": AMBER,
    "failed": ORANGE,
    "diverged": PINK,
    "oom": BROWN,
}
BEST = ORANGE
RISING = [[0.0, "#E8E4D8"], [0.25, "#B9CDB8"], [0.5, "#6FA8A8"], [0.75, "#3B7A9E"], [1.0, "#1F4E79"]]


def safe(text: object) -> str:
    """Escape a name for plotly, whose labels are a subset of HTML that no class or file name may use."""
    return html.escape(str(text).encode("utf-8", "replace").decode(), quote=False)


def short(text: object, length: int = 28) -> str:
    """Shorten a name to fit an axis, and escape it."""
    plain = str(text)
    return safe(plain if len(plain) <= length else f"{plain[: length - 1]}…")


def colour_of(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def status_colour(status: str) -> str:
    return STATUS_COLOURS.get(status, GREY)


def plot(traces: list[Any], x: str = "", y: str = "", height: int = 380, **layout: Any) -> go.Figure:
    """Return a figure with our margins and titles. x, y: titles of the axes, units included."""
    figure = go.Figure(traces)
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 12, "t": 12, "b": 48},
        font={"size": 12},
        hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis={"title": {"text": safe(x), "standoff": 8}, "automargin": True},
        yaxis={"title": {"text": safe(y), "standoff": 8}, "automargin": True},
    )
    return figure.update_layout(**layout)
