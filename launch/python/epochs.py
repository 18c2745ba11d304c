"""The epochs of a run, one after another, while its search writes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from visionsweep.core.files import json_or_error
from visionsweep.run_dir.shapes import epoch_problem

LOOK_EVERY_S = 0.2

OnEpoch = Callable[[dict[str, Any]], object]


class EpochFile:
    """Whole lines of an epochs.jsonl that have come since the last look. A missing file has none yet.

    What the file holds at first is of an earlier session, and is left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Whole lines alone: a torn last one is cut off when the run is resumed.
        self.offset = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0

    def new_rows(self) -> Iterator[dict[str, Any]]:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read()
        except OSError:  # not there yet
            return
        whole, newline, _ = content.rpartition(b"\n")
        self.offset += len(whole) + len(newline)
        for line in whole.split(b"\n"):
            row = json_or_error(line)
            if not isinstance(row, ValueError) and epoch_problem(row) is None:
                yield row


class EpochTeller(threading.Thread):
    """Calls `on_epoch` for each epoch, in this thread, until the search is over and every line was passed on.

    path      the run's epochs.jsonl
    is_over   whether no line will follow
    on_error  called when `on_epoch` raised, which is kept in `raised`; no further epoch is passed on
    """

    def __init__(
        self, path: Path, on_epoch: OnEpoch, is_over: Callable[[], bool], on_error: Callable[[], object]
    ) -> None:
        super().__init__(name="on-epoch", daemon=True)
        self.file = EpochFile(path)
        self.on_epoch = on_epoch
        self.is_over = is_over
        self.on_error = on_error
        self.raised: BaseException | None = None

    def run(self) -> None:
        pause = threading.Event()
        last = False
        while not last:
            last = self.is_over()  # asked before the look, which then sees every line
            for row in self.file.new_rows():
                try:
                    self.on_epoch(row)
                except BaseException as error:  # the caller's own, raised again where the caller waits
                    self.raised = error
                    self.on_error()
                    return
            pause.wait(0 if last else LOOK_EVERY_S)
