"""The figures of a page: each in a script element of its own, drawn when it is scrolled to."""

from __future__ import annotations

from dataclasses import dataclass, field

import plotly.graph_objects as go


@dataclass(frozen=True)
class Plot:
    """Where a figure stands in the page, and what is said of it."""

    key: str
    height: int
    title: str
    caption: str = ""


@dataclass
class Plots:
    """Collects the figures of one run; `prefix` keeps those of several runs apart."""

    prefix: str
    figures: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, figure: go.Figure, title: str, caption: str = "") -> Plot:
        key = f"{self.prefix}-{name}"
        # The page has a template of its own, one for each mode.
        figure = figure.update_layout(template=None)
        self.figures[key] = figure.to_json().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        return Plot(key, int(figure.layout.height), title, caption)
