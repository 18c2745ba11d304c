"""The stages of a long command on standard error: one line that changes on a terminal, a line a stage in a log."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from launch.cli.slow import SAY_AFTER_S
from visionsweep.core.printable import printable
from visionsweep.core.stages import heard_by

QUIET_S = 3.0  # a command that is quicker says nothing
REDRAW_S = 0.5


@contextlib.contextmanager
def stages_shown(doing: str) -> Iterator[None]:
    """Show the stages of the body, of which the first is `doing`, once it has taken QUIET_S."""
    shown = _Shown(doing)
    thread = threading.Thread(target=shown.follow, name="stages", daemon=True)
    thread.start()
    try:
        with heard_by(shown.begins):
            yield
    finally:
        shown.begins("")
        shown.over.set()
        thread.join()


class _Shown:
    """The stage that is shown now. `begins` is called by the work, `follow` runs in a thread of its own."""

    def __init__(self, doing: str) -> None:
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.live = sys.stderr.isatty()
        self.began = time.monotonic()
        self.said_at = 0.0
        self.said = ""
        self.doing = doing

    def begins(self, doing: str) -> None:
        with self.lock:
            self.doing = doing
            if self.live and self.said:
                self._write("\r\x1b[K")  # what the work prints must not stand behind it
                self.said = ""
            elif not self.live:
                self._say()

    def follow(self) -> None:
        while not self.over.wait(REDRAW_S if self.live else QUIET_S / 4):
            with self.lock:
                self._say()

    def _say(self) -> None:
        now = time.monotonic()
        if not self.doing or now - self.began < QUIET_S:
            return
        if self.live:
            self._write(f"\r\x1b[K{printable(self.doing)} ... {now - self.began:.0f} s")
        elif self.said != self.doing:
            self._write(f"{printable(self.doing)} ...\n")
        elif now - self.said_at > SAY_AFTER_S:
            self._write(f"Still {printable(self.doing)} ({now - self.began:.0f} s since the start).\n")
        else:
            return
        self.said = self.doing
        self.said_at = now

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed pipe is no reason to end the work
            sys.stderr.write(text)
            sys.stderr.flush()
