"""Watchdog for Ray: if its processes are killed or its head is gone, a search would wait forever."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

import ray

from launch.machines.cluster import started_here
from launch.machines.ray_internals import own_processes
from visionsweep.core.files import one_line
from visionsweep.core.printable import printable

LOOK_EVERY_S = 5.0
LOST = 2  # exit code of every error with a next move


@contextlib.contextmanager
def watched_ray(next_move: str, before_exit: Callable[[], object]) -> Iterator[None]:
    """Watch Ray in a thread beside the body, and end this process with a message when Ray is gone.

    The main thread then waits in Ray's own code and cannot be woken. No record is lost: each is written when it
    happens.

        next_move    the sentence that says what to do
        before_exit  called before the process ends, for example to restore the terminal
    """
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_EVERY_S):
            why = ray_is_gone()
            if why and not done.is_set():
                with contextlib.suppress(Exception):
                    before_exit()
                message = f"visionsweep: Ray has ended ({why}). {next_move}"
                print(printable(message), file=sys.stderr, flush=True)
                os._exit(LOST)

    watcher = threading.Thread(target=look, name="watch-ray", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def ray_is_gone() -> str:
    """Return why this process has no Ray any more, or '' while it has one."""
    for name, started in (own_processes() or {}).items():
        if name in ("raylet", "gcs_server") and any(one.process.poll() is not None for one in started):
            return f"its process {name} on this machine is gone"
    if started_here():
        return ""
    try:
        here = ray.get_runtime_context().get_node_id()
        if any(one["NodeID"] == here and one["Alive"] for one in ray.nodes()):
            return ""
    except Exception as error:  # the head does not answer
        return one_line(error)
    return "this machine is no longer part of the cluster"
