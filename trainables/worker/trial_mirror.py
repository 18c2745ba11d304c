"""The mirror on S3 of one trial's files.

Files are downloaded when the trial begins in a process, and uploaded after every epoch. So the trial can be resumed on
another machine. S3 has the authoritative copy, and the local folders are scratch.

    RUN/checkpoints/TRIAL/last.pt, process.json, epoch-NNNN.safetensors    as in a run directory
    RUN/checkpoints/TRIAL/epochs.jsonl     the trial's own lines, for a driver that was killed before it sent its own
    RUN/predictions/TRIAL/epoch-NNNN.npz, and with folds fold-F.npz or out-of-fold.npz
    RUN/judged/TRIAL/best.npz              of every trial; kept when the others are deleted
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.checkpoint import TrialFiles
from visionsweep.core.errors import StorageError
from visionsweep.core.s3 import parse_remote
from visionsweep.core.safe_path import safe_path
from visionsweep.run_dir.files import CHECKPOINTS, EPOCHS_FILE, OUT_OF_FOLD_FILE, PROCESS_FILE, epoch_of, kept_files

ROWS_FILE = EPOCHS_FILE


class TrialMirror:
    """The link between a trial's files and its run on S3.

    run_uri   address of the run
    trial_id  the trial
    files     its files, in the local folders `checkpoints/TRIAL` and `predictions/TRIAL`
    """

    def __init__(self, run_uri: str, trial_id: str, files: TrialFiles) -> None:
        self.run = parse_remote(run_uri)
        self.trial_id = trial_id
        self.files = files
        self.rows = b""
        self.sent: dict[str, tuple[int, int]] = {}  # name on S3 -> size and time of the local file
        self.stored: set[str] = set()  # names on S3

    def bring(self) -> None:
        """Download the files that the trial is resumed from. Raises StorageError."""
        self.leave()
        for folder in (self.files.checkpoints, self.files.predictions):
            self.stored |= {self._name(folder / name) for name in (self.run / self._name(folder)).listing()}
        for name in self.stored:
            path = self._path(name)
            if path.name == ROWS_FILE:
                found = self.run.read(name)
                self.rows = b"" if found is None else found.content
            # Predictions show which epochs are kept. Their weights are not needed here.
            elif (path == self.files.last or path.suffix == ".npz") and self.run.download(name, self.home):
                self.sent[name] = _looks(path)

    def send(self, row: Mapping[str, Any] | None = None) -> None:
        """Upload changed files and the trial's line of an epoch, and delete files that the epoch displaced.

        row  of the epoch, None sends files alone

        Raises StorageError.
        """
        kept = [self.files.files_of(epoch_of(path)) for path in kept_files(self.files.predictions)]
        # In the order of writing: weights must be there before the predictions that mark them as kept.
        parts = [*self.files.predictions.glob("fold-*.npz"), self.files.predictions / OUT_OF_FOLD_FILE]
        judged = [] if self.files.judged is None else [self.files.judged]
        others = [*parts, self.files.last, self.files.checkpoints / PROCESS_FILE, *judged]
        local = [path for pair in kept for path in pair] + others
        for path in local:
            name = self._name(path)
            if path.exists() and self.sent.get(name) != (looks := _looks(path)):
                self.run.upload(path, name)
                self.sent[name] = looks
                self.stored.add(name)
        if row is not None:
            self.rows += json.dumps(epoch_line(self.trial_id, row), default=str).encode() + b"\n"
            name = self._name(self.files.checkpoints / ROWS_FILE)
            self.run.write(name, self.rows)
            self.stored.add(name)
        displaced = (
            self.stored - {self._name(path) for path in local} - {self._name(self.files.checkpoints / ROWS_FILE)}
        )
        self.run.delete(sorted(displaced, key=lambda name: name.startswith(CHECKPOINTS)))  # weights go last
        self.stored -= displaced

    def leave(self) -> None:
        """Delete the local files of a trial that has ended in this process."""
        judged = [] if self.files.judged is None else [self.files.judged.parent]
        for folder in (self.files.checkpoints, self.files.predictions, *judged):
            shutil.rmtree(folder, ignore_errors=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.home).as_posix()

    def _path(self, name: str) -> Path:
        return safe_path(self.home, name, self.run.uri, kind=StorageError)

    @property
    def home(self) -> Path:
        return self.files.checkpoints.parents[1]


def scratch(run_dir: Path) -> Path:
    """Return this process's own folder for its trial's files, and delete the folders of killed processes.

    No other process deletes it when it exits.
    """
    host = socket.gethostname()
    for folder in (run_dir / "scratch").glob(f"{host}-*"):
        try:
            os.kill(int(folder.name.rpartition("-")[2]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (PermissionError, ValueError):
            continue
    return run_dir / "scratch" / f"{host}-{os.getpid()}"


def epoch_line(trial_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line of epochs.jsonl for an epoch's row, written by the process that trained it."""
    metrics = {name: value for name, value in row["metrics"].items() if math.isfinite(value)}
    where = {"node": socket.gethostname(), "pid": os.getpid()}
    return {"time": time.time(), "trial_id": trial_id, **row, "metrics": metrics, **where}


def _looks(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
