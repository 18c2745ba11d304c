"""Look a name up in a table, and answer a wrong one with the nearest right one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from search_spaces.errors import ConfigError

T = TypeVar("T")

# The metrics of a validated epoch, under the names that scripts may rely on.
METRICS = (
    "val/accuracy", "val/top5", "val/precision", "val/recall", "val/f1", "val/map", "val/auroc", "val/loss",
    "val/precision_micro", "val/recall_micro", "val/f1_micro",
    "val/precision_macro", "val/recall_macro", "val/f1_macro",
)  # fmt: skip


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known name, or lists them all where none is near."""
    names = list(known)
    # Longest common run first: people leave out a prefix ('lite0') more often than they swap letters.
    near = get_close_matches(str(name), names, n=1, cutoff=0.6) or [
        known_name for known_name in names if len(str(name)) > 2 and str(name) in known_name
    ]
    if near:
        return f"Did you mean '{near[0]}'?"
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"Known: {listed}."


def pick(table: Mapping[str, T], name: str, kind: str) -> T:
    """`table[name]`; a ConfigError with the nearest right name where there is none."""
    if name not in table:
        raise ConfigError(f"unknown {kind} '{name}'. {did_you_mean(name, table)}")
    return table[name]
