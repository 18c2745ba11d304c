"""Figures of a page, each in its own script element and drawn when it is scrolled into view."""

from __future__ import annotations

from dataclasses import dataclass, field

import plotly.graph_objects as go


@dataclass(frozen=True)
class Plot:
    """Position and caption of a figure in the page."""

    key: str
    height: int
    title: str
    caption: str = ""


@dataclass
class Plots:
    """The figures of one run. `prefix` keeps those of several runs apart."""

    prefix: str
    figures: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, figure: go.Figure, title: str, caption: str = "") -> Plot:
        key = f"{self.prefix}-{name}"
        # The page has its own templates, for light and dark mode.
        figure = figure.update_layout(template=None)
        self.figures[key] = figure.to_json().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        return Plot(key, int(figure.layout.height), title, caption)
