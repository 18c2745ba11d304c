"""The run directory. The driver alone writes it, here. `visionsweep/run_dir/trials.py` reads it.

    runs/NAME/
      search.json        what was asked, resolved
      trials.jsonl       proposed, started, ended(status, reason): one line per event; see `measured` and `outgrown`
      epochs.jsonl       one line per trial and epoch
      checkpoints/TRIAL/ predictions/TRIAL/ judged/TRIAL/    see `trainables/checkpoint.py`
      best.yaml          the best configuration so far
      study.journal      a copy for optuna-dashboard, see `launch/tracking/journal.py`
      tb/ mlruns/ wandb/ copies for others, see `launch/tracking/loggers.py`

Lines are appended whole: each is one write to a file opened for appending. So after a crash a reader, or a resumed run,
meets at most one torn line, the last one. Nothing is written before the lock is held. `visionsweep/run_dir/syncing.py`
says what a power cut may cost, and `visionsweep/run_dir/recovery.py` what is repaired after it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launch.remote.mirror import Mirror
from launch.tracking.listener import Listener
from trainables.config.io import dump_config, parse_config
from trainables.stored_rows import stored_row
from visionsweep.core.errors import RunError
from visionsweep.core.s3 import Remote
from visionsweep.core.writing import make_folder, sync_folder, write_whole
from visionsweep.run_dir.files import (
    BEST_FILE,
    EPOCHS_FILE,
    LAST_FILE,
    PROCESS_FILE,
    SEARCH_FILE,
    TRIAL_ROOMS,
    TRIALS_FILE,
    judged_file,
    last_file,
    trial_folder,
)
from visionsweep.run_dir.lock import disk_errors, held
from visionsweep.run_dir.recovery import cut_torn_end, lost_their_end, mended
from visionsweep.run_dir.syncing import Syncer
from visionsweep.run_dir.trials import (
    STATUSES,
    VERSION,
    Trial,
    Trials,
    read_search,
    read_trials,
    take_epoch,
    take_event,
)


class Records:
    """Writer of a run directory, which keeps its contents in memory too.

    mirror  sends what is written to S3, None for a run that is a folder
    trials  what was read from the folder before
    """

    def __init__(self, run_dir: Path, mirror: Mirror | None = None, trials: Trials | None = None) -> None:
        self.run_dir = run_dir
        self.mirror = mirror
        self.trials: Trials = {} if trials is None else trials
        self.syncer: Syncer | None = None  # while the lock is held
        self.listeners: list[Listener] = []

    @property
    def place(self) -> str:
        """The location that commands take for RUN."""
        return str(self.run_dir) if self.mirror is None else self.mirror.uri

    @classmethod
    def create(cls, run_dir: Path, search_json: Mapping[str, Any], mirror: Mirror | None = None) -> Records:
        """Make the directory. Raises RunError if it exists or cannot be written."""
        records = cls(run_dir, mirror)
        with disk_errors(run_dir):
            make_folder(run_dir.parent)
            try:
                run_dir.mkdir()  # of two processes at the same time, one makes it
            except FileExistsError:
                raise exists_already(run_dir) from None
            sync_folder(run_dir.parent)
            records.write_search(search_json)
            for name in (EPOCHS_FILE, TRIALS_FILE):  # the lock's file is last
                (run_dir / name).touch()
            sync_folder(run_dir)
        return records

    @classmethod
    def open(cls, run_dir: Path) -> tuple[Records, dict[str, Any]]:
        """Read a run that was started before, and return its search.json too. Changes nothing: see `locked`."""
        search_json = read_search(run_dir)
        return cls(run_dir, trials=read_trials(run_dir)), search_json

    def write_search(self, search_json: Mapping[str, Any]) -> None:
        """Write search.json, whole or not at all.

        Raises RunError if the disk is full or the folder read-only. The earlier file is then still there.
        """
        text = json.dumps({"version": VERSION, **search_json}, indent=1, default=str)
        with disk_errors(self.run_dir):
            write_whole(self.run_dir / SEARCH_FILE, lambda path: path.write_text(text))

    @property
    def next_number(self) -> int:
        """The number of the next trial. No trial has had it, even if a line was lost."""
        return 1 + max(map(int, self.trials), default=-1)

    def proposed(self, trial_id: str, params: Mapping[str, Any], config: Mapping[str, Any], origin: str) -> None:
        self._event({"event": "proposed", "trial_id": trial_id, "params": params, "config": config, "origin": origin})
        for listener in self.listeners:
            listener.proposed(self.trials[trial_id])

    def started(self, trial_id: str, share: Mapping[str, Any] | None = None) -> None:
        """Record that a trial began. share: of a GPU or a machine, if trials are packed
        (`trainables/worker/resources.py`)."""
        packed = {} if share is None else {"share": dict(share)}
        self._event({"event": "started", "trial_id": trial_id, **packed})

    def measured(self, trial_id: str, memory_mb: float) -> None:
        """Record the memory that a trial's first batches took."""
        self._event({"event": "measured", "trial_id": trial_id, "memory_mb": memory_mb})

    def outgrown(self, trial_id: str, memory_mb: float) -> None:
        """Record the memory at which a trial ran out of it."""
        self._event({"event": "outgrown", "trial_id": trial_id, "memory_mb": memory_mb})

    def noted(self, trial_id: str, note: str) -> None:
        """Record what happened to a trial that its epochs do not show."""
        self._event({"event": "noted", "trial_id": trial_id, "note": note})

    def ended(self, trial_id: str, status: str, reason: str) -> None:
        assert status in STATUSES, status
        num_epochs = len(self.trials[trial_id].epochs)
        self._event({"event": "ended", "trial_id": trial_id, "status": status, "reason": reason, "epochs": num_epochs})
        for listener in self.listeners:
            listener.ended(self.trials[trial_id])

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Record an epoch.

        row: trial_id, epoch, metrics, seconds, images_per_s, lr, COSTS, node, pid, device (cpu or cuda) and precision.
        The precision is the one that it computed in, which may differ from the configuration's.
        """
        whole = {"time": time.time(), **row}
        self._append(EPOCHS_FILE, whole)
        take_epoch(self.trials, whole)
        for listener in self.listeners:
            listener.epoch(self.trials[row["trial_id"]], whole)

    def listen(self, listener: Listener) -> None:
        """Tell a listener everything that is recorded from now on."""
        self.listeners.append(listener)

    def close_listeners(self) -> None:
        """Have the listeners finish what is pending."""
        for listener in self.listeners:
            listener.close()

    def keep_only(self, trial_ids: Iterable[str], among: Iterable[Trial] | None = None) -> None:
        """Delete the weights and predictions of all ended trials but these, and every ended trial's last.pt.

        The compact predictions of complete trials stay: they are what the best one was chosen among.

        among: the only trials that may have files left, None if that is not known.
        """
        kept = set(trial_ids)
        if self.syncer is None:
            self._delete_others(kept, among)
        else:  # once its end is on the disk: a power cut must not leave a running trial without its state
            trials = list(self.trials.values() if among is None else among)
            ended = [trial for trial in trials if trial.status not in ("running", "interrupted")]
            self.syncer.after(lambda: self._delete_others(kept, ended))
        if self.mirror is not None:
            unfinished = [one.trial_id for one in self.trials.values() if one.status in ("running", "interrupted")]
            self.mirror.keep_only(kept, unfinished, self.trials)

    def _delete_others(self, kept: set[str], among: Iterable[Trial] | None) -> None:
        for trial in self.trials.values() if among is None else among:
            if trial.status in ("running", "interrupted"):
                continue  # they may be resumed
            folders = [trial_folder(self.run_dir, room, trial.trial_id) for room in TRIAL_ROOMS]
            for name in (LAST_FILE, PROCESS_FILE):
                (folders[0] / name).unlink(missing_ok=True)
            for partial in (file for folder in folders for file in folder.glob(".*.partial")):
                partial.unlink(missing_ok=True)  # of a process that was killed while it wrote
            if trial.trial_id not in kept:
                judged = judged_file(self.run_dir, trial.trial_id).parent
                for folder in folders if trial.status == "complete" else (*folders, judged):
                    shutil.rmtree(folder, ignore_errors=True)

    def copy_state(self, source: str, target: str) -> int | None:
        """Copy a trial's state, for a trial to be proposed that starts from it.

        Returns the epoch of the copied state, None if the source has ended and left nothing to copy.
        """
        if self.mirror is not None:
            return self.mirror.copy_state(source, target)
        source_file = last_file(self.run_dir, source)
        target_file = last_file(self.run_dir, target)
        try:
            with disk_errors(self.run_dir):
                write_whole(target_file, lambda path: shutil.copyfile(source_file, path))
        except RunError:
            if source_file.exists():
                raise
            return None
        row = stored_row(target_file)
        return None if row is None else int(row["epoch"])

    def drop_state(self, trial_id: str) -> None:
        """Delete the state of a trial that was not proposed after all."""
        last_file(self.run_dir, trial_id).unlink(missing_ok=True)
        if self.mirror is not None:
            self.mirror.drop_state(trial_id)

    def write_best(self, best: Trial | None, score: str = "") -> None:
        """Write best.yaml, the best configuration so far, which `visionsweep train` accepts.

        score: of the trial, in words, for the comment at the head.
        """
        if best is None:
            return
        text = dump_config(parse_config(best.config, f"trial {best.trial_id}"))
        with disk_errors(self.run_dir):
            write_whole(
                self.run_dir / BEST_FILE,
                lambda path: path.write_text(f"# trial {best.trial_id} of run {self.run_dir.name}{score}\n{text}"),
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Work on the run as the only process.

        What a crash left is repaired first. What is appended meanwhile reaches the disk every few seconds. Raises
        RunError if another process holds the lock, or a line is damaged.
        """
        with held(self.run_dir):
            with disk_errors(self.run_dir):
                for name in (TRIALS_FILE, EPOCHS_FILE):
                    cut_torn_end(self.run_dir / name)
                self.trials = mended(self.run_dir)
            self.syncer = Syncer(self.run_dir / EPOCHS_FILE, self.run_dir / TRIALS_FILE)
            self.syncer.start()
            try:
                for trial in lost_their_end(self.run_dir, self.trials):
                    self.ended(trial.trial_id, "interrupted", "the machine stopped before its last epochs were stored")
                yield
            finally:
                self.syncer.close()
                self.syncer = None

    def _event(self, row: Mapping[str, Any]) -> None:
        whole = {"time": time.time(), **row}
        self._append(TRIALS_FILE, whole)
        take_event(self.trials, whole)

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        if self.mirror is not None:
            self.mirror.check()
        line = json.dumps(row, default=str, allow_nan=False) + "\n"
        with disk_errors(self.run_dir):
            descriptor = os.open(self.run_dir / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                written = os.write(descriptor, line.encode())
                if written != len(line.encode()):  # the disk is full: no torn line for the next one to join
                    os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)
        if self.syncer is not None:
            self.syncer.appended(self.run_dir / name, soon=row.get("event") == "ended")


def exists_already(run_dir: Path | Remote) -> RunError:
    """Return the error for a run that exists: a run is never overwritten."""
    return RunError(
        f"run '{run_dir.name}' exists already in {run_dir.parent}. Choose another --name, "
        f"or resume it: `visionsweep resume {run_dir}`."
    )
