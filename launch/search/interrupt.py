"""Ctrl-C, SIGTERM and SIGHUP while trials run.

The first ends the search cleanly, so that it can be resumed. A second one ends it at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from launch.cli.signals import handled_by, raise_if_asked
from launch.machines.placement import task_on
from launch.search.progress import Progress
from launch.search.searcher import StudySearcher

STOP_S = 60.0  # for a trial that does not reach the end of its batch; its epoch is lost anyhow, as every trial's


@contextmanager
def ctrl_c(searcher: StudySearcher, stop: Callable[[], object], progress: Progress) -> Iterator[None]:
    """Handle signals while the body runs.

    The first one stops new trials, and `stop` has the running ones end after their current batch. A second one, or
    STOP_S later, ends everything at once.
    """
    late = threading.Timer(STOP_S, os.kill, (os.getpid(), signal.SIGTERM))
    late.daemon = True

    def on_signal(number: int, frame: object) -> None:
        if searcher.stopped:
            raise KeyboardInterrupt
        searcher.stop()
        stop()
        late.start()
        progress.say("Stopping: running trials end after their current batch. Ctrl-C again stops at once.")

    with handled_by(on_signal):
        try:
            raise_if_asked()
            yield
        finally:
            late.cancel()


def stop_everywhere(stop_file: Path, reason: str = "") -> None:
    """Make the stop file on every machine of a run whose machines share no folder. Returns at once."""
    stop_file.write_text(reason)
    threading.Thread(target=write_on_machines, args=(stop_file, reason), name="stop", daemon=True).start()


def write_on_machines(path: Path, text: str) -> None:
    """Write a file on every live machine, by a task on each."""
    for node in ray.nodes():
        if node["Alive"]:
            task_on(node["NodeID"], _write).remote(path, text)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
