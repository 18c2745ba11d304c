"""Repair of a run's lines and files after a crash or a power cut, by the one process that holds the lock."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from visionsweep.core.files import check_plain
from visionsweep.core.writing import write_whole
from visionsweep.run_dir.files import EPOCHS_FILE, ROOMS, TRIALS_FILE, last_file
from visionsweep.run_dir.trials import Trial, Trials, read_lines, take_epoch, take_event

BLOCK_BYTES = 2**20


def mended(run_dir: Path) -> Trials:
    """Read the trials of a run, and delete all that is left of those whose proposal was lost.

    Another trial may get the number, and must not be resumed from their state.
    """
    trials: Trials = {}
    for row in read_lines(run_dir / TRIALS_FILE):
        take_event(trials, row)
    path = run_dir / EPOCHS_FILE
    rows = read_lines(path)
    for row in rows:
        take_epoch(trials, row)
    for room in ROOMS:
        for folder in (run_dir / room).glob("[0-9][0-9][0-9][0-9]*"):
            if folder.name not in trials:
                shutil.rmtree(folder, ignore_errors=True)
    known = [row for row in rows if row["trial_id"] in trials]
    if len(known) < len(rows):
        text = "".join(json.dumps(row) + "\n" for row in known)
        write_whole(path, lambda partial: partial.write_text(text))
    return trials


def cut_torn_end(path: Path) -> None:
    """Cut off a last line that is not whole, so that the next one does not join it. All else stays as it is."""
    check_plain(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        end = next(_ends(descriptor, size), 0)
        if end < size:
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lost_their_end(run_dir: Path, trials: Trials) -> list[Trial]:
    """Return ended trials of which fewer epochs are recorded than they had, and which can be resumed.

    A trial's state is deleted only when its last line is on the disk with all of its epochs.
    """
    return [
        trial
        for trial in trials.values()
        if trial.status not in ("running", "interrupted")
        and len(trial.epochs) < trial.num_epochs_told
        and last_file(run_dir, trial.trial_id).exists()
    ]


def _ends(descriptor: int, size: int) -> Iterator[int]:
    """Yield the offsets where whole lines end, the last one first."""
    end = size
    while end > 0:
        start = max(0, end - BLOCK_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            yield start + found + 1
        end = start
