"""The one place where text reaches the terminal.

It holds names of files and classes, and messages of other programs. They are shown, and never obeyed.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

from visionsweep.core.printable import printable


def say(text: str, *, end: str = "\n", flush: bool = False) -> None:
    """Print plain text on standard output. It may hold the words of others."""
    print(printable(text), end=end, flush=flush)


class Terminal(Console):
    """rich's console, through `printable`. Square brackets are no markup: a class may be called [red]."""

    def __init__(self, width: int | None, *, record: bool = False) -> None:
        """Take the width, None for the terminal's own. record: keep as text what a terminal would show."""
        shown = {"record": True, "file": io.StringIO(), "force_terminal": True} if record else {}
        super().__init__(width=width, highlight=False, markup=False, **shown)  # type: ignore[arg-type]

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # The live table's own movements of the cursor are control segments.
            yield segment if segment.control else segment._replace(text=printable(segment.text))
