"""The page of a search that runs, made anew whenever its files have changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.lock import in_use
from analysis.report.page import RELOAD_S, write_report

FILES = ("search.json", "trials.jsonl", "epochs.jsonl")


def watch(
    run_dirs: Sequence[Path],
    out: Path | None,
    *,
    with_model: bool,
    told: Callable[[Path], None],
    every_s: float = RELOAD_S,
    goes_on: Callable[[], bool] | None = None,
) -> None:
    """Write the page now and after each change, until `goes_on` says no or a KeyboardInterrupt comes; then once more,
    as a page that does not load itself anew. told: called with the page's path after each writing. goes_on: None asks
    whether somebody still works on one of the runs.

    The images and the weights are looked at in the last page alone: trials need the cores more.
    """
    goes_on = goes_on or (lambda: any(map(in_use, run_dirs)))
    before: object = None
    try:
        while goes_on():
            now = [_state(run_dir / name) for run_dir in run_dirs for name in FILES]
            if now != before:
                before = now
                told(write_report(run_dirs, out, with_model=False, reloads=True))
            time.sleep(every_s)
    except KeyboardInterrupt:
        pass
    told(write_report(run_dirs, out, with_model=with_model))


def _state(path: Path) -> tuple[int, int]:
    """Size and time of last change: cheaper than to read it."""
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_size, about.st_mtime_ns
