"""The handle of a search that Python started: it can be looked at, stopped, waited for, and handed over."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.python.epochs import EpochTeller, OnEpoch
from launch.python.notebook import REDRAW_EVERY_S, LiveTable, in_notebook, keep_alive, page
from launch.python.process import SearchProcess
from launch.python.status import State, Status, status_of
from visionsweep.core.errors import RunError, VisionsweepError
from visionsweep.core.printable import printable
from visionsweep.core.s3 import is_remote
from visionsweep.run_dir.files import EPOCHS_FILE, SEARCH_FILE
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run

if TYPE_CHECKING:
    import pandas as pd

    from analysis.models.loaded import LoadedModel

SHOWN_LINES = 3  # of what the search says, below the table in a notebook


class RunningSearch:
    """A search that was started from Python, while it runs and afterwards.

    run_dir   its run directory, or the address of its run on S3
    """

    def __init__(self, process: SearchProcess, run_dir: str, quiet: bool, on_epoch: OnEpoch | None) -> None:
        self.run_dir: Path | str = run_dir if is_remote(run_dir) else Path(run_dir)
        self.quiet = quiet
        self._process = process
        self._began = time.monotonic()
        self._ended: float | None = None
        self._error: BaseException | None = None
        self._closing = threading.Lock()
        self._teller: EpochTeller | None = None
        if on_epoch is not None:
            epochs = Path(run_dir) / EPOCHS_FILE
            self._teller = EpochTeller(epochs, on_epoch, lambda: process.has_ended, process.stop)
            self._teller.start()

    # Looking at it.

    def load(self) -> Run:
        """Read the run as it is now. Raises RunError if the search has not made it yet."""
        if isinstance(self.run_dir, Path):
            return load_run(self.run_dir)
        from launch.remote.open_run import open_run

        with open_run(self.run_dir) as run:
            return run

    def status(self) -> Status:
        """Return how far the search is."""
        run = self._run()
        state = self._state(run)
        return status_of(run, state, (self._ended or time.monotonic()) - self._began, time.time())

    @property
    def is_running(self) -> bool:
        return not self._process.has_ended

    @property
    def output(self) -> str:
        """The last lines that the search has printed, as on a terminal."""
        return "".join(self._process.lines)

    def ranking(self) -> pd.DataFrame:
        """Return a row for each trial, best first (`visionsweep.run_dir.rank.ranking_frame`)."""
        from analysis.from_python import ranking

        return ranking(self)

    def curves(self) -> pd.DataFrame:
        """Return a row for each trial and epoch (`Run.curves`)."""
        return self.load().curves()

    def importance(self) -> pd.DataFrame:
        """Return how much each parameter decided (`analysis.figures.importance.importance`)."""
        from analysis.from_python import importance

        return importance(self)

    def compare(self, parameter: str) -> pd.DataFrame:
        """Return the values of a choice against each other (`analysis.figures.compare.compare`)."""
        from analysis.from_python import compare

        return compare(self, parameter)

    # Ending it.

    def wait(self, timeout: float | None = None) -> RunningSearch:
        """Wait until the search has ended, and print what it says. Return the handle.

        timeout: seconds, after which TimeoutError is raised and the search goes on.

        Raises the error that ended the search, of the class that the command line reports, or what `on_epoch` raised.
        A KeyboardInterrupt stops the search cleanly, waits for it, and is raised again. A second one ends it at once.
        """
        until = None if timeout is None else time.monotonic() + timeout
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                self._follow(until)
                break
            except KeyboardInterrupt as again:
                interrupted = again
                self._process.stop()
                until = None
        if self.is_running:
            raise TimeoutError(f"the search goes on after {timeout:g} s. Wait longer, or call stop().")
        self._close()
        if interrupted is not None:
            self._say(
                f"Stopped. vs.load_run({str(self.run_dir)!r}) has what it found, and `visionsweep resume` goes on."
            )
            raise interrupted
        if self._error is not None:
            raise self._error
        return self

    def stop(self, wait: bool = True) -> RunningSearch:
        """Stop the search as Ctrl-C does: its running trials end after their current batch, and can be resumed.

        wait: until it has ended. A second call ends it at once.
        """
        self._process.stop()
        return self.wait() if wait else self

    # Handing it over.

    def report(self, out: Path | str | None = None, *, with_model: bool = True) -> Path:
        """Write the run's HTML page and return its path. out: None means report.html in the run directory."""
        from analysis.from_python import report

        return report(self, out, with_model=with_model)

    def export(self, out: Path | str | None = None, **options: Any) -> LoadedModel:
        """Export what the run recommends, and return it ready to predict: see `launch.python.export.export`."""
        from launch.python.export import export

        return export(self, out, **options)

    # Showing it.

    def __repr__(self) -> str:
        return f"<Search {self.run_dir}: {self.status()}>"

    def _repr_html_(self) -> str:
        run = self._run()
        running = self.is_running
        lines = list(self._process.lines)[-SHOWN_LINES:] if running else []
        return page(str(self.run_dir), run, str(self.status()), lines)

    def _ipython_display_(self) -> None:
        if in_notebook():
            keep_alive(self._repr_html_, lambda: not self.is_running)
        else:
            print(printable(repr(self)))

    # The rest is the handle's own.

    def _run(self) -> Run | None:
        """Return the run, or None while there is none."""
        try:
            return self.load()
        except RunError:
            if isinstance(self.run_dir, Path) and (self.run_dir / SEARCH_FILE).is_file():
                raise
            return None

    def _state(self, run: Run | None) -> State:
        if self.is_running:
            return "starting" if run is None else "running"
        self._close()
        if isinstance(self._error, VisionsweepError):
            return "failed"
        return "stopped" if self._process.asked_to_stop or run is None else "ended"

    def _follow(self, until: float | None) -> None:
        """Show what the search says, in a notebook its table instead, until it has ended or it is `until`."""
        table = LiveTable(self._repr_html_()) if in_notebook() and not self.quiet else None
        redrawn = time.monotonic()
        for line in self._process.output(until=until):
            if table is None and line is not None:
                self._say(line[1], line[0])
            elif table is not None and time.monotonic() > redrawn + REDRAW_EVERY_S:
                table.update(self._repr_html_())
                redrawn = time.monotonic()
        if table is not None:
            table.update(self._repr_html_())

    def _say(self, text: str, stream: str = "stdout") -> None:
        if not self.quiet:
            print(printable(text.rstrip("\n")), file=getattr(sys, stream), flush=True)

    def _close(self) -> None:
        """Settle how the search ended. The process has ended."""
        with self._closing:
            if self._ended is not None:
                return
            if self._teller is not None and self._teller is not threading.current_thread():
                self._teller.join()
            raised = None if self._teller is None else self._teller.raised
            self._error = raised or self._process.error()
            self._process.close()
            self._ended = time.monotonic()
