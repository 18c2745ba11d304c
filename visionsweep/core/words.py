"""Names and counts in messages."""

from __future__ import annotations

from collections.abc import Sequence


def quoted(names: Sequence[str], most: int = 20) -> str:
    """Return "'a', 'b'" and so on, and after `most` names how many more there are."""
    listed = ", ".join(f"'{name}'" for name in names[:most])
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(number: int, thing: str) -> str:
    """Return '1 image' or '2 images'."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def below(spec: str, *parts: str) -> str:
    """Return the name of a file of the data for messages. `spec` is a local folder or an address."""
    return "/".join([spec.rstrip("/"), *filter(None, parts)])


def under(folder: str, name: str) -> str:
    """Return a name in a folder, both relative to the data's root. The folder '' is the root itself."""
    return f"{folder}/{name}" if folder else name
