"""The page's figures as PNG files, drawn by kaleido in a Chrome or Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import plotly.io

from analysis.figures.cost import incumbent
from analysis.report.best import best_section
from analysis.report.plots import Plot, Plots
from analysis.report.sections import sections
from visionsweep.core.errors import ConfigError, RunError
from visionsweep.core.files import one_line
from visionsweep.run_dir.run import Run

# width in page pixels, and picture pixels for each of them
WIDTH = 900
SCALE = 2
TITLE = 44  # pixels above a figure


def write_pictures(run: Run, folder: Path, *, with_model: bool = True) -> list[Path]:
    """Write each figure of the page as a .png below `folder`, on white. with_model: as in `write_report`.

    Raises ConfigError if kaleido or a browser is missing, RunError if the files cannot be written.
    """
    try:
        import kaleido  # noqa: F401 (plotly's own message about it is long)
    except ImportError:
        raise ConfigError("pictures need kaleido. Install it: pip install 'visionsweep[png]'.") from None
    plots = Plots("png")
    found = [plot for section in sections(run, plots) for plot in (*section.plots, *section.grid)]
    if (at := incumbent(run)) is not None:
        best = best_section(run, at.best, plots, with_model=with_model)
        found += [*best.plots, *([best.embedding] if best.embedding else [])]
    figures = [_titled(plots, plot) for plot in found]
    paths = [folder / f"{name}.png" for name in _names(found)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if figures:
            heights = [plot.height + TITLE for plot in found]
            plotly.io.write_images(figures, paths, width=WIDTH, height=heights, scale=SCALE)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror or error}). Choose another --png.") from None
    except (RuntimeError, ValueError) as error:  # plotly's, where there is no browser or it has ended
        raise ConfigError(
            f"no browser draws the pictures ({one_line(error)}). Install Chrome or Chromium, or let kaleido fetch one: "
            "plotly_get_chrome."
        ) from None
    return paths


def _titled(plots: Plots, plot: Plot) -> go.Figure:
    figure = plotly.io.from_json(plots.figures[plot.key])
    margin = (figure.layout.margin.t or 0) + TITLE
    return figure.update_layout(
        template="plotly_white",
        title={"text": plot.title, "x": 0.02, "y": 1, "yanchor": "top", "pad": {"t": 12}, "font": {"size": 15}},
        margin={"t": margin},
    )


def _names(plots: list[Plot]) -> Iterator[str]:
    """Yield a file name for each plot: its key, or what it shows if its kind is numbered (`slice-optimizer-lr`)."""
    seen: set[str] = set()
    for plot in plots:
        key = plot.key.removeprefix("png-")
        kind, _, number = key.rpartition("-")
        plain = re.sub(r"[^a-z0-9]+", "-", plot.title.lower()).strip("-")
        name = f"{kind}-{plain}" if number.isdigit() and plain and f"{kind}-{plain}" not in seen else key
        seen.add(name)
        yield name
