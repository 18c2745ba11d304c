"""A search in a notebook: a table that is drawn anew while it searches. IPython is used only where it runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from html import escape
from importlib import import_module
from typing import Any

from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shown import run_html

REDRAW_EVERY_S = 2.0


def in_notebook() -> bool:
    """Whether this code runs in a kernel, whose front end shows HTML. IPython on a terminal does not."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class LiveTable:
    """One place in a notebook's output whose content can be replaced."""

    def __init__(self, html: str) -> None:
        self.module: Any = import_module("IPython.display")
        self.shown = self.module.display(self.module.HTML(html), display_id=True)

    def update(self, html: str) -> None:
        self.shown.update(self.module.HTML(html))


def keep_alive(html: Callable[[], str], is_over: Callable[[], bool]) -> None:
    """Show a table, and draw it anew in a thread until the search is over."""
    table = LiveTable(html())

    def redraw() -> None:
        pause = threading.Event()
        over = is_over()
        while not over:
            pause.wait(REDRAW_EVERY_S)
            over = is_over()
            table.update(html())

    threading.Thread(target=redraw, name="live-table", daemon=True).start()


def page(name: str, run: Run | None, heading: str, lines: list[str]) -> str:
    """Return a search as HTML: its run, or its name while it has none, and the last lines that it said."""
    said = f"<pre>{escape(''.join(lines))}</pre>" if lines else ""
    if run is None:
        return f"<div><p><b>{escape(name)}</b>: {escape(heading)}</p>{said}</div>"
    return run_html(run, heading) + said
