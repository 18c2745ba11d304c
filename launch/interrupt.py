"""Ctrl-C: once, the search ends cleanly and can go on later; twice, it ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from launch.progress import Progress
from launch.searcher import StudySearcher


@contextmanager
def ctrl_c(searcher: StudySearcher, stop: Callable[[], object], progress: Progress) -> Iterator[None]:
    """Once: no new trials, and `stop` has the running ones end after their current batch. Twice: at once."""

    def on_signal(number: int, frame: object) -> None:
        if searcher.stopped:
            raise KeyboardInterrupt
        searcher.stopped = True
        stop()
        progress.say("Stopping: running trials end after their current batch. Ctrl-C again stops at once.")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_everywhere(stop_file: Path) -> None:
    """Make the file on every machine, where they share no folder; returns at once."""
    stop_file.touch()
    threading.Thread(target=touch_on_machines, args=(stop_file,), name="stop", daemon=True).start()


def touch_on_machines(path: Path) -> None:
    """By a task on each of them."""
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_touch).remote(path)


def _touch(path: Path) -> None:
    path.touch()
