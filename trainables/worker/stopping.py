"""Checks before every batch: whether to stop, and the memory of a trial that has not been measured yet."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the driver of a search sets deadlines, and trains nothing
    import torch


@dataclass(frozen=True)
class Deadline:
    """The end of a search, on clocks that cannot be set.

    at_s    on the monotonic clock of the driver's machine, which all of its processes share
    left_s  seconds until then, at creation
    boot    identifies the machine and its boot
    """

    at_s: float
    left_s: float
    boot: str

    @classmethod
    def of(cls, at_s: float) -> Deadline:
        """Return the deadline at `at_s` of this machine's time.monotonic()."""
        return cls(at_s, at_s - time.monotonic(), _boot())

    def here(self, left_s: float | None) -> float:
        """Return the deadline on this machine's monotonic clock.

        left_s  seconds left just now by the driver's clock, None takes those at creation
        """
        left_s = self.left_s if left_s is None else left_s
        return self.at_s if self.boot == _boot() else time.monotonic() + left_s


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # without Linux every process counts as one of another machine
        return f"{os.getpid()}"


@dataclass
class StopSignal:
    """The reason why a trial should stop now: the budget is spent, or the stop file exists. None if neither.

    deadline    of time.monotonic(), None for a search without one
    stop_file   its text is the reason, if it has any; looked for once a second
    checked_at  when it was last looked for
    """

    deadline: float | None
    stop_file: Path
    checked_at: float = -math.inf

    @classmethod
    def of(cls, ends: Deadline | None, left_s: float | None, stop_file: Path) -> StopSignal:
        return cls(None if ends is None else ends.here(left_s), stop_file)

    def __call__(self) -> str | None:
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline:
            return "the budget is spent"
        if now - self.checked_at >= 1.0:
            self.checked_at = now
            with contextlib.suppress(FileNotFoundError):
                return self.stop_file.read_text() or "the search was asked to stop"
        return None


class Measured(Exception):
    """The first batches were trained, with this peak memory in MB."""

    def __init__(self, peak_memory_mb: float) -> None:
        super().__init__(f"{peak_memory_mb:.0f} MB")
        self.peak_memory_mb = peak_memory_mb


@dataclass
class FirstBatches:
    """A `should_stop` for `fit`, which calls it at the start and before every batch. It measures the first batches.

    It raises Measured once, after `batches` batches, and returns `stop()` otherwise. If an epoch has fewer batches,
    those of its evaluation count too. `batches` must exceed those of one optimizer step. Then the optimizer's state is
    held while the last ones are trained.
    """

    stop: Callable[[], str | None]
    device: torch.device
    batches: int
    asked: int = field(default=0, init=False)

    def __call__(self) -> str | None:
        self.asked += 1
        if self.asked == self.batches + 2:
            from trainables.costs import peak_memory_mb

            raise Measured(peak_memory_mb(self.device))
        return self.stop()
