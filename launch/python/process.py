"""The process of a search: the same Python with the same command line, whose output comes line by line."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from launch.python.caller import CALLER_PIPE, ERROR_FILE, told_error
from visionsweep.core.errors import VisionsweepError

ROOT = Path(__file__).parents[2]
STOPPED = tuple(128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))  # before any trial began
KEPT_LINES = 2000
LAST_WORDS_S = 5.0  # for lines that are still on their way when the process has ended

_alive = set["SearchProcess"]()  # also those whose handle nobody kept


class SearchProcess:
    """A command that searches. It gets signals, Ray and threads of its own, so that the caller's are left alone.

    words   the command line after `visionsweep`
    search  text of the search's file, whose path takes the place of the word SEARCH, None where a word names the search
    """

    SEARCH = "SEARCH.json"

    def __init__(self, words: Sequence[str], search: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="visionsweep-call-"))
        self.asked_to_stop = False
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._waiting: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        if search is not None:
            (self.folder / "search.json").write_text(search)
        named = [str(self.folder / "search.json") if word is self.SEARCH else word for word in words]
        pipe, self._held = os.pipe()  # the end that is held here is closed when this Python ends, however it ends
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "visionsweep", *named],
                env=self._environment(pipe),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                process_group=0,  # a terminal's Ctrl-C is for the caller, who passes it on once
                pass_fds=(pipe,),
            )
        finally:
            os.close(pipe)
        self._readers = [
            threading.Thread(target=self._read, args=(stream, name), name=f"search-{name}", daemon=True)
            for stream, name in ((self.process.stdout, "stdout"), (self.process.stderr, "stderr"))
        ]
        for reader in self._readers:
            reader.start()
        _alive.add(self)

    def _environment(self, pipe: int) -> dict[str, str]:
        environment = {
            **os.environ,
            ERROR_FILE: str(self.folder / "error.json"),
            CALLER_PIPE: str(pipe),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
        }
        # A checkout that only this process's sys.path names. What is installed the other Python finds by itself.
        if ROOT.name not in ("site-packages", "dist-packages"):
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        return environment

    def _read(self, stream: IO[str], name: str) -> None:
        with stream:
            for line in stream:
                self.lines.append(line)
                self._waiting.put((name, line))

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def output(self, look_every_s: float = 0.2, until: float | None = None) -> Iterator[tuple[str, str] | None]:
        """Yield (stdout or stderr, line) as they come, and None where none came for a moment.

        It ends with the process, or at `until` of time.monotonic().
        """
        ended_at = None
        while until is None or time.monotonic() < until:
            try:
                yield self._waiting.get(timeout=look_every_s)
                continue
            except queue.Empty:
                pass
            if self.has_ended:
                ended_at = ended_at or time.monotonic()
                reading = any(reader.is_alive() for reader in self._readers)
                if not reading or time.monotonic() > ended_at + LAST_WORDS_S:
                    break
            yield None
        while not self._waiting.empty():
            yield self._waiting.get()

    def stop(self) -> None:
        """Ask the search to end, as Ctrl-C does. The second time it ends at once."""
        # SIGTERM means the same as SIGINT (see `signals.py`), which a Python in the background ignores and passes on.
        self.asked_to_stop = True
        if not self.has_ended:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once. Its run can still be resumed."""
        self.asked_to_stop = True
        if not self.has_ended:
            self.process.kill()

    def error(self) -> VisionsweepError | None:
        """Return what ended the search before its time, or None. The process must have ended."""
        told = told_error(self.folder / "error.json")
        code = self.process.returncode
        if told is not None or code == 0 or (self.asked_to_stop and code != 0) or code in STOPPED:
            return told
        last = next((line.strip() for line in reversed(self.lines) if line.strip()), "it said nothing")
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return VisionsweepError(
            f"the process of the search {how}: {last}. Its run keeps what was done: `visionsweep resume RUN` goes on."
        )

    def close(self) -> None:
        """Forget the files of the call. The process must have ended."""
        _alive.discard(self)
        with contextlib.suppress(OSError):
            os.close(self._held)
        self._held = -1
        for name in ("search.json", "error.json"):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


@atexit.register
def _end_all() -> None:
    """End searches that still run when this Python ends: cleanly, so that they can be resumed."""
    for one in _alive:
        one.stop()
    for one in list(_alive):
        one.process.wait()
        one.close()
