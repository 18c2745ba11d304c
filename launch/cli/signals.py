"""Signals that end a command: Ctrl-C, SIGTERM (a service, a queue) and SIGHUP (a closed terminal) mean the same.

    from the start to the trials    KeyboardInterrupt; Ray is ended                              `listening`
    while trials run                they end after their current batch, then comes the ranking   `interrupt.ctrl_c`
    ranking, ending Ray             it is finished first                                         `finishing`

A second signal ends the command at once. A signal that was ignored when the command was started stays ignored. `nohup`
does that, and a script's background does it for SIGINT.
"""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    first: int | None = None  # the signal that came
    held = 0  # depth of `finishing`


@contextmanager
def handled_by(on_signal: Callable[[int, Any], None]) -> Iterator[None]:
    """Call `on_signal` for each of these signals that is not ignored, while the body runs."""
    with kept_handlers():
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, on_signal)
        yield


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Restore the handlers that the body replaces.

    Ray's client has SIGTERM end the process with exit code 15.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in its main thread alone
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def kept_below() -> Iterator[None]:
    """Restore the handlers that the body replaces in C, which Python does not see. Works in any thread.

    Ray's core, once loaded, has SIGTERM print its own stack and end the process.
    """
    handler_of = ctypes.pythonapi.PyOS_getsig
    set_handler = ctypes.pythonapi.PyOS_setsig
    handler_of.restype = set_handler.restype = ctypes.c_void_p
    set_handler.argtypes = [ctypes.c_int, ctypes.c_void_p]
    before = {number: handler_of(int(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            set_handler(int(number), handler)


@contextmanager
def listening() -> Iterator[None]:
    """Have each of these signals raise KeyboardInterrupt in the body."""
    _State.first = None
    _State.held = 0
    with handled_by(_on_signal):
        yield


def _on_signal(number: int, frame: object) -> None:
    again = _State.first is not None
    _State.first = _State.first or number
    if again or not _State.held:
        raise KeyboardInterrupt


@contextmanager
def finishing() -> Iterator[None]:
    """Let the body, which takes seconds, come to its end. A first signal is only noted."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1


def raise_if_asked() -> None:
    """Raise KeyboardInterrupt if a signal came.

    A library that was being imported may have swallowed the exception.
    """
    if _State.first is not None:
        raise KeyboardInterrupt


def asked() -> bool:
    """Whether a signal came, which `finishing` only notes."""
    return _State.first is not None


def exit_code() -> int:
    """Return the exit code that a shell expects: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (_State.first or signal.SIGINT)
