"""Processes of their own for the checks of `gpu.py`: some break their CUDA context, and some share a GPU."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.gpu_ground import Wrong

# Its imports are done once, in a server that never touches the GPU, and every process is forked from it.
PROCESSES = multiprocessing.get_context("forkserver")
END_S = 10.0


_inside = False  # whether this is such a process itself


class Apart:
    """A call in a process of its own. The outermost leads a group, so that whatever it starts ends with it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        PROCESSES.set_forkserver_preload(["benchmarks.gpu"])
        self._answer, theirs = PROCESSES.Pipe(duplex=False)
        self.process = PROCESSES.Process(target=_call, args=(theirs, not _inside, function, arguments))
        self.process.start()
        theirs.close()

    def result(self, timeout_s: float) -> Any:
        """Return what the call returned. Raises Wrong with the first line of what went wrong in it."""
        try:
            if not self._answer.poll(timeout_s):
                raise Wrong(f"no answer within {timeout_s:.0f} s")
            ok, value = self._answer.recv()
        except EOFError:
            self.process.join(END_S)
            raise Wrong(f"its process ended without an answer (exit code {self.process.exitcode})") from None
        finally:
            self.end()
        if not ok:
            raise Wrong(*value)
        return value

    def end(self) -> None:
        """End the process and all that it started."""
        self._answer.close()
        self.process.join(0.2)
        if not _inside and self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join(END_S)


def all_results(calls: list[Apart], timeout_s: float) -> list[Any]:
    """Return the results of calls that run at once. The first that goes wrong ends all of them."""
    try:
        return [call.result(timeout_s) for call in calls]
    finally:
        for call in calls:
            if call.process.is_alive():
                call.end()


def first_line(error: BaseException) -> str:
    """Return an error's first line with its kind, and the place in our code that it came from."""
    if isinstance(error, Wrong):
        return str(error).splitlines()[0]
    words = next(iter(str(error).splitlines()), "")
    where = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(where[-1].filename).name}:{where[-1].lineno})" if where else ""
    return f"{type(error).__name__}: {words}{place}"


def _call(answer: Connection, leads: bool, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _inside
    _inside = True
    if leads:
        os.setpgid(0, 0)
    try:
        value = function(*arguments)
    except Exception as error:
        answer.send((False, (first_line(error), getattr(error, "found", None))))
    else:
        answer.send((True, value))
    answer.close()
