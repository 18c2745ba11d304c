"""Functions named by where they stand, so that a table can list them without importing their libraries."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

Place: TypeAlias = Callable[..., Any] | str  # a function, or 'module:name'


def function_at(place: Place) -> Callable[..., Any]:
    """Return a function, imported now if `place` only says where it stands."""
    if not isinstance(place, str):
        return place
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
