"""Ctrl-C: once, the search ends cleanly and can go on later; twice, it ends at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.progress import Progress
from launch.searcher import StudySearcher


@contextmanager
def ctrl_c(searcher: StudySearcher, stop_file: Path, progress: Progress) -> Iterator[None]:
    """Once: no new trials, the running ones end after their current batch. Twice: at once."""

    def on_signal(number: int, frame: object) -> None:
        if searcher.stopped:
            raise KeyboardInterrupt
        searcher.stopped = True
        stop_file.touch()
        progress.say("Stopping: running trials end after their current batch. Ctrl-C again stops at once.")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
