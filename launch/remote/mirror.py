"""Mirror of a run on S3: the driver works in a local folder as always, and what must survive is sent.

    search.json  trials.jsonl  epochs.jsonl  best.yaml  study.journal   sent by a thread here, when they have changed
    checkpoints/TRIAL/  predictions/TRIAL/  judged/TRIAL/                sent by the trials (`trial_mirror`)

A killed driver loses the records of its last few seconds. The next driver recovers the epochs among them from the
trials themselves. epochs.jsonl is read after trials.jsonl and sent before it. So no trial has ended in trials.jsonl
whose epochs are missing in epochs.jsonl.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.remote.lock import RemoteLock
from launch.remote.open_run import read_records
from trainables.stored_rows import stored_row
from visionsweep.core.errors import RunError, StorageError
from visionsweep.core.files import json_or_error, parse_json
from visionsweep.core.s3 import Remote
from visionsweep.core.writing import write_whole
from visionsweep.run_dir.files import (
    BEST_FILE,
    EPOCHS_FILE,
    LAST_FILE,
    PROCESS_FILE,
    ROOMS,
    SEARCH_FILE,
    STUDY_FILE,
    TRIAL_ROOMS,
    TRIALS_FILE,
    state_name,
)
from visionsweep.run_dir.shapes import epoch_problem
from visionsweep.run_dir.trials import read_lines, read_search, read_trials

READ_ORDER = (TRIALS_FILE, EPOCHS_FILE, SEARCH_FILE, BEST_FILE, STUDY_FILE)
SEND_ORDER = (SEARCH_FILE, EPOCHS_FILE, TRIALS_FILE, BEST_FILE, STUDY_FILE)
NEEDED_TO_RESUME = (LAST_FILE, PROCESS_FILE, EPOCHS_FILE)

SEND_EVERY_S = 3.0
LONGEST_SHARE = 0.2  # of the time may be spent on sending: large files are sent less often

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kept:
    """Ids of the trials that keep their weights, of those that may continue, and of all."""

    best: frozenset[str]
    unfinished: frozenset[str]
    known: frozenset[str]


class Mirror:
    """Mirror of one run. The caller holds the lock.

    run     on S3
    folder  the working copy here
    lock    of the run
    """

    def __init__(self, run: Remote, folder: Path, lock: RemoteLock) -> None:
        self.run = run
        self.folder = folder
        self.lock = lock
        self.sent: dict[str, tuple[int, int]] = {}
        self.kept: _Kept | None = None
        self.swept: _Kept | None = None  # the last one that was carried out
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._send_when_changed, name="run-mirror", daemon=True)

    @property
    def uri(self) -> str:
        return self.run.uri

    def check(self) -> None:
        """Raise RunError if another process has taken the run over: nothing may be recorded any more."""
        if self.lock.lost:
            raise RunError(self.lock.lost)

    def fetch(self) -> None:
        """Fetch the records, and repair what killed processes left undone. Raises RunError if there is no such run."""
        records = read_records(self.run)
        if not self._is_ahead(records):
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in READ_ORDER:
                (self.folder / name).unlink(missing_ok=True)
            for name in (TRIALS_FILE, EPOCHS_FILE):
                (self.folder / name).write_bytes(records[name])
        write_whole(self.folder / SEARCH_FILE, lambda path: path.write_bytes(records[SEARCH_FILE]))
        known = frozenset(read_trials(self.folder))
        # Delete the files of trials whose proposals were not sent: other trials will get their numbers.
        self._sweep(lambda trial_id, name: trial_id in known, ROOMS)
        self._repair_epochs()

    def keep_only(self, best: Iterable[str], unfinished: Iterable[str], known: Iterable[str]) -> None:
        """Keep the files of these trials alone, as `Records.keep_only`, once the records that say so were sent."""
        self.kept = _Kept(frozenset(best), frozenset(unfinished), frozenset(known))

    def bring(self, name: str) -> None:
        """Fetch a trial's file into the working copy, if it exists and S3 answers."""
        with suppress(StorageError):
            self.run.download(name, self.folder)

    def copy_state(self, source: str, target: str) -> int | None:
        """Copy a trial's state to another as `Records.copy_state`, but return None also where S3 does not answer."""
        here = self.folder / state_name(target)
        try:
            if not self.run.download(state_name(source), self.folder, to=state_name(target)):
                return None
            self.run.upload(here, state_name(target))
            row = stored_row(here)
            return None if row is None else int(row["epoch"])
        except StorageError as error:
            _log.warning("%s; trial %s is not copied", error, source)
            return None
        finally:
            here.unlink(missing_ok=True)

    def drop_state(self, trial_id: str) -> None:
        """Delete a trial's state, as `Records.drop_state`."""
        self.run.delete([state_name(trial_id)])

    def start(self) -> None:
        self.thread.start()

    def close(self) -> None:
        """Send the rest. Raises StorageError or RunError if that fails: the working copy then has all of it."""
        self.ended.set()
        self.thread.join()
        self.swept = None  # an abandoned process may have sent something since
        self._send()
        with suppress(StorageError):  # not every server supports it
            self.run.forget_unfinished()

    def _send_when_changed(self) -> None:
        took_s = 0.0
        silent = False
        while not self.ended.wait(max(SEND_EVERY_S, took_s * (1 / LONGEST_SHARE - 1))):
            began = time.monotonic()
            try:
                self._send()
                silent = False
            except (StorageError, OSError) as error:  # the next round tries again
                if not silent:
                    _log.warning("%s; the search continues, and sends its records when it can", error)
                silent = True
            except RunError:  # taken over by another process, which `check` reports to the search
                return
            took_s = time.monotonic() - began

    def _send(self) -> None:
        kept = self.kept
        contents = {}
        for name in READ_ORDER:
            path = self.folder / name
            with suppress(FileNotFoundError):
                stat = path.stat()
                looks = (stat.st_size, stat.st_mtime_ns)  # before reading: what is written meanwhile is sent again
                if self.sent.get(name) != looks:
                    contents[name] = (path.read_bytes(), looks)
        for name in SEND_ORDER:
            if name in contents:
                self.lock.require()
                content, looks = contents[name]
                self.run.write(name, content)
                self.sent[name] = looks
        if kept is not None and kept is not self.swept:
            self.lock.require()
            self._sweep(lambda trial_id, name: _belongs(kept, trial_id, name))
            self.swept = kept

    def _sweep(self, belongs: Callable[[str, str], bool], rooms: Sequence[str] = TRIAL_ROOMS) -> None:
        """Delete the files of trials for which `belongs(trial id, file name)` is false."""
        for room in rooms:
            names = [name for name in self.run.listing(f"{room}/") if name.count("/") == 2]
            self.run.delete(name for name in names if not belongs(*name.split("/")[1:]))

    def _is_ahead(self, records: dict[str, bytes]) -> bool:
        """Return whether the working copy is this run's and has all that S3 has.

        That is so after its driver was killed on this machine.
        """
        with suppress(OSError, RunError, ValueError, AttributeError):
            mine = read_search(self.folder)
            theirs = parse_json(records[SEARCH_FILE].decode())
            if mine.get("started") != theirs.get("started"):
                return False
            names = (TRIALS_FILE, EPOCHS_FILE)
            return all((self.folder / name).read_bytes().startswith(records[name]) for name in names)
        return False

    def _repair_epochs(self) -> None:
        """Drop epochs of unknown trials, and add those that only the trials themselves have sent."""
        trials = read_trials(self.folder)
        path = self.folder / EPOCHS_FILE
        rows = [row for row in read_lines(path) if row["trial_id"] in trials]
        for trial in trials.values():
            if trial.status in ("running", "interrupted"):
                recorded = {row["epoch"] for row in trial.epochs}
                stored = self.run.read(state_name(trial.trial_id, EPOCHS_FILE))
                rows += [row for row in _lines(stored.content if stored else b"") if row["epoch"] not in recorded]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_whole(path, lambda partial: partial.write_text(text))


def _belongs(kept: _Kept, trial_id: str, name: str) -> bool:
    if trial_id in kept.unfinished or trial_id not in kept.known:  # a copy may exist before its trial is proposed
        return True
    return trial_id in kept.best and name not in NEEDED_TO_RESUME


def _lines(content: bytes) -> list[dict[str, Any]]:
    """Return the rows of a trial's own file, without damaged ones."""
    rows = (json_or_error(line) for line in content.splitlines())
    return [row for row in rows if not isinstance(row, ValueError) and epoch_problem(row) is None]
