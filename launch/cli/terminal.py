"""The one place where text reaches the terminal.

It holds names of files and classes, and messages of other programs. They are shown, and never obeyed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

from visionsweep.core.masked import masked

_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))  # they reorder what is read
_SURROGATES = range(0xD800, 0xE000)  # bytes of a file name that are no text, which no terminal can be given
_SHOWN = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},  # such as ␛ for escape
    0x7F: "␡",
    **dict.fromkeys((*range(0x80, 0xA0), *_DIRECTIONS, *_SURROGATES), "\ufffd"),
}


def printable(text: str) -> str:
    """Return the text without passwords, and with every control character as a visible sign.

    Line ends and tabs stay.
    """
    return masked(text).translate(_SHOWN)


def say(text: str, *, end: str = "\n", flush: bool = False) -> None:
    """Print plain text on standard output. It may hold the words of others."""
    print(printable(text), end=end, flush=flush)


class Terminal(Console):
    """rich's console, through `printable`. Square brackets are no markup: a class may be called [red]."""

    def __init__(self, width: int | None) -> None:
        super().__init__(width=width, highlight=False, markup=False)

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # The live table's own movements of the cursor are control segments.
            yield segment if segment.control else segment._replace(text=printable(segment.text))
