"""What is asked before every batch: whether to stop, and, of a trial whose memory nobody knows, what it takes."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from trainables.costs import peak_memory_mb


@dataclass(frozen=True)
class Deadline:
    """When a search ends. No clock that can be set is in it.

    at_s: on the monotonic clock of the driver's machine, which all of its processes share. left_s: until then, when
    this was made. boot: tells machines, and their starts, apart.
    """

    at_s: float
    left_s: float
    boot: str

    @classmethod
    def of(cls, at_s: float) -> Deadline:
        """at_s: of this machine's time.monotonic()."""
        return cls(at_s, at_s - time.monotonic(), _boot())

    def here(self, left_s: float | None) -> float:
        """The deadline on this machine's monotonic clock. left_s: what the driver said was left, just now."""
        left_s = self.left_s if left_s is None else left_s
        return self.at_s if self.boot == _boot() else time.monotonic() + left_s


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # no Linux: every process counts as another machine's
        return f"{os.getpid()}"


@dataclass
class StopSignal:
    """Says why a trial should stop now: the budget is spent, or someone asked. Looks at the disk once a second.

    deadline: of time.monotonic(), None for a search without one. stop_file: its text is the reason, where it has one.
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
    """The first batches were trained, and took so many MB at most."""

    def __init__(self, peak_memory_mb: float) -> None:
        super().__init__(f"{peak_memory_mb:.0f} MB")
        self.peak_memory_mb = peak_memory_mb


@dataclass
class FirstBatches:
    """A question for `fit(should_stop=...)`, which is asked at the start and before every batch: raises Measured after
    `batches` of them, once, and asks `stop` otherwise. An epoch with fewer batches is measured while it is judged.

    More batches than one optimizer step takes: its state is then held while the next ones are trained.
    """

    stop: Callable[[], str | None]
    device: torch.device
    batches: int
    asked: int = field(default=0, init=False)

    def __call__(self) -> str | None:
        self.asked += 1
        if self.asked == self.batches + 2:
            raise Measured(peak_memory_mb(self.device))
        return self.stop()
