"""What long work does now, passed to its listeners: a command shows it, and a call from Python hears nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str], None]] = []


def stage(doing: str) -> None:
    """Tell what begins now, such as "reading the run". An empty text says that nothing does."""
    for listener in _listeners:
        listener(doing)


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Let `listener` hear every stage of the body."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
