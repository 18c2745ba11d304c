"""A sentence instead of silence while a step takes long.

On a busy machine even importing libraries takes minutes.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from visionsweep.core.printable import printable

SAY_AFTER_S = 30.0  # of silence
BEGAN = time.monotonic()  # about the start of the command; one count through all steps


def stage(text: str) -> None:
    """Print a line on what a command does now, on standard error, without importing anything heavy."""
    print(printable(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def said_if_slow(doing: str) -> Iterator[None]:
    """Say every SAY_AFTER_S seconds that the body is still `doing` something, such as "reading the data"."""
    over = threading.Event()

    def say() -> None:
        while not over.wait(SAY_AFTER_S):
            waited_s = time.monotonic() - BEGAN
            print(printable(f"Still {doing} ({waited_s:.0f} s since the start)."), file=sys.stderr, flush=True)

    threading.Thread(target=say, name="said-if-slow", daemon=True).start()
    try:
        yield
    finally:
        over.set()
