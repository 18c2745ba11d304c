"""Class names that people cannot tell apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from visionsweep.core.errors import DataError
from visionsweep.core.words import quoted


def class_name_notes(spec: str, classes: Sequence[str]) -> list[str]:
    """Return a note about names that differ only in case or blanks.

    Raises DataError where two names differ only in how Unicode writes them: they look the same in every message.
    """
    for names in _alike(classes, lambda name: unicodedata.normalize("NFC", name)):
        forms = " and ".join(f"{_form(name)} {name!a}" for name in names)
        raise DataError(
            f"{spec}: the class '{names[0]}' is written in {len(names)} forms of Unicode: {forms}. "
            "Give both the same name: archives made on a Mac have the decomposed form."
        )
    alike = _alike(classes, lambda name: " ".join(name.casefold().split()))
    return [
        f"Classes that differ only in case or blanks are taken as {len(names)}: {quoted(names)}." for names in alike
    ]


def _alike(classes: Sequence[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(key(name), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _form(name: str) -> str:
    if unicodedata.is_normalized("NFC", name):
        return "composed"
    return "decomposed" if unicodedata.is_normalized("NFD", name) else "mixed"
