"""What is asked before every batch: whether to stop, and, of a trial whose memory nobody knows, what it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from trainables.costs import peak_memory_mb


@dataclass
class StopSignal:
    """Says why a trial should stop now: the budget is spent, or someone asked. Looks at the disk once a second."""

    deadline: float | None
    stop_file: Path
    checked_at: float = 0.0

    def __call__(self) -> str | None:
        now = time.time()
        if self.deadline is not None and now >= self.deadline:
            return "the budget is spent"
        if now - self.checked_at >= 1.0:
            self.checked_at = now
            if self.stop_file.exists():
                return "the search was asked to stop"
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
