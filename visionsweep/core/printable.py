"""Text that may hold the words of others, such as names of files and classes, made fit for a terminal."""

from __future__ import annotations

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
