"""One section of the page about a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from analysis.report.plots import Plot


@dataclass
class Section:
    """`sentences` come first, `plots` are shown below each other and `grid` side by side.

    folded: the words behind which the figures are folded away, '' where they are shown
    """

    key: str
    title: str
    sentences: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    grid: list[Plot] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)
    folded: str = ""
