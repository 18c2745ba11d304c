"""The page of a running search, rewritten whenever its files have changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.report.page import RELOAD_S, write_report
from visionsweep.run_dir.files import EPOCHS_FILE, SEARCH_FILE, TRIALS_FILE
from visionsweep.run_dir.in_use import in_use

FILES = (SEARCH_FILE, TRIALS_FILE, EPOCHS_FILE)


def watch(
    run_dirs: Sequence[Path],
    out: Path | None,
    *,
    with_model: bool,
    on_written: Callable[[Path], None],
    every_s: float = RELOAD_S,
    is_running: Callable[[], bool] | None = None,
) -> None:
    """Write the page now and after each change, then once more as a page that does not reload itself.

        run_dirs    folders of the runs
        out         see `write_report`
        with_model  as in `write_report`, for the last page alone: trials need the cores more
        on_written  called with the page's path after each write
        every_s     seconds between looks
        is_running  returns whether to continue, None asks whether a process works on one of the runs

    A KeyboardInterrupt ends the watch too.
    """
    is_running = is_running or (lambda: any(map(in_use, run_dirs)))
    before: object = None
    try:
        while is_running():
            now = [_state(run_dir / name) for run_dir in run_dirs for name in FILES]
            if now != before:
                before = now
                on_written(write_report(run_dirs, out, with_model=False, reloads=True))
            time.sleep(every_s)
    except KeyboardInterrupt:
        pass
    on_written(write_report(run_dirs, out, with_model=with_model))


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of the last change, which is cheaper than reading the file."""
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_size, about.st_mtime_ns
