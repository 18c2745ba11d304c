"""Write a training's state in the background, so that a GPU does not wait for a disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

LONGEST_SHARE = 0.05  # of the time that training may wait for copies of its state


class InBackground:
    """Copies states to the host's memory and hands them to a thread that writes them, one at a time.

    A state that comes while the last one is still being written, or so soon that the copies would take more than
    LONGEST_SHARE of the time, is left out. A resumed training then begins a few epochs earlier, and is the same.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "write-state")
        self._writing: Future[None] | None = None
        self._next_s = 0.0  # of time.monotonic(), when another copy may be made

    def submit(self, state: Callable[[], dict[str, Any]], write: Callable[[dict[str, Any]], None]) -> bool:
        """Copy `state()` and have it written, or leave it out. Return whether it was copied.

        Raises what the last write raised.
        """
        if self._writing is not None and not self._writing.done():
            return False
        self.wait()
        began = time.monotonic()
        if began < self._next_s:
            return False
        copied = on_host(state())
        ended = time.monotonic()
        self._next_s = ended + (ended - began) / LONGEST_SHARE
        self._writing = self._thread.submit(write, copied)
        return True

    def wait(self) -> None:
        """Wait until everything is written. Raises what the write raised."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def on_host(value: Any) -> Any:
    """Return nested dicts, lists and tuples with copies of their tensors in the host's memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_host(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_host(one) for one in value)
    return value
