"""Detection of trials that hang, or whose process dies again and again.

A trial hangs if it shows no epoch for longer than its own history allows. Its process is ended, and it is resumed from
its last epoch. One that hangs a second time has failed. So has one whose process dies repeatedly without a new epoch.

A stuck process cannot end itself, so the driver has it killed, by a task on the machine where it runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.tune import Callback

from launch.machines.placement import task_on
from launch.machines.ray_internals import count_failures
from launch.trial_notes import TrialNotes
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_object
from visionsweep.run_dir.files import PROCESS_FILE, process_file, state_name

LEAST_S = 120.0  # no silence shorter than this is a hang: disks and hubs have bad minutes
FIRST_S = 1800.0  # before the first epoch in a process: weights may be downloaded, and images decoded
FACTOR = 10.0  # times the longest epoch so far
LOOK_EVERY_S = 1.0


@dataclass
class _Silence:
    """How long a trial has shown no epoch.

    `longest_s` and `last` are of all of the trial's epochs so far.

        trial      Ray's
        since      by time.monotonic, which stands still while a laptop sleeps
        begun      whether this process has shown an epoch
        longest_s  seconds of the longest epoch
        last       number of the last epoch
        hangs      so far
    """

    trial: Any
    since: float = field(default_factory=time.monotonic)
    begun: bool = False
    longest_s: float = 0.0
    last: int = 0
    hangs: int = 0

    def heard(self, begun: bool = False) -> None:
        """Begin anew, as the trial has shown something. begun: it was an epoch."""
        self.since = time.monotonic()
        self.begun = begun

    def took(self, seconds: float, epoch: int) -> bool:
        """Take the seconds of a result, and return whether it is of a later epoch than any before."""
        self.longest_s = max(self.longest_s, seconds)
        later = epoch > self.last
        self.last = max(self.last, epoch)
        return later

    def hung(self, now: float) -> bool:
        """Count a hang, after which the trial gets a new process. Returns whether it is not the first."""
        self.since = now
        self.begun = False
        self.hangs += 1
        return self.hangs > 1


class HangDetector(Callback):  # type: ignore[misc]
    """Callback that ends the processes of trials that hang.

    Trials write into the run directory which process they run in.

        run_dir  of the run, on this machine
        retries  number of failures after which Ray gives a trial up
        notes    `given_up` is written
        bring    gets a file of a run on S3 into run_dir, None: the run is not on S3
    """

    def __init__(
        self,
        run_dir: Path,
        retries: int,
        notes: TrialNotes | None = None,
        bring: Callable[[str], object] | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.retries = retries
        self.bring = bring
        self.silences: dict[str, _Silence] = {}
        self.notes = notes or TrialNotes()
        self.looked = 0.0

    def __getstate__(self) -> dict[str, object]:
        return {}  # Ray pickles callbacks for its own restore; a run is resumed from its records instead

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard(trial)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        within_fold = "fold_epoch" in result  # an epoch of a later fold, which has no number of its own
        silence = self._heard(trial, begun="epoch" in result or within_fold)  # what its first batches took is no epoch
        seconds = float(result.get("seconds", 0.0)) if result.get("fold", 1) == 1 else 0.0  # else of a whole fold
        further = silence.took(seconds, result.get("epoch", 0)) or within_fold
        if further and trial.config["trial_id"] not in self.notes.given_up:
            # It has come further, so its configuration was not what killed it. On machines that come and go a long
            # trial dies more often than a bad one.
            count_failures(trial, 0)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.silences.pop(trial.config["trial_id"], None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.silences.pop(trial.config["trial_id"], None)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = time.monotonic()
        if now - self.looked < LOOK_EVERY_S:
            return
        self.looked = now
        for silence in self.silences.values():
            if silence.trial.status == "RUNNING":
                self._look(silence.trial, silence, now)

    def _heard(self, trial: Any, begun: bool = False) -> _Silence:
        silence = self.silences.setdefault(trial.config["trial_id"], _Silence(trial))
        silence.heard(begun)
        return silence

    def _look(self, trial: Any, silence: _Silence, now: float) -> None:
        allowed_s = max(LEAST_S if silence.begun else FIRST_S, FACTOR * silence.longest_s)
        if now - silence.since < allowed_s:
            return
        if silence.hung(now):
            count_failures(trial, self.retries)  # the next failure is its last
            self.notes.given_up[trial.config["trial_id"]] = (
                f"hung twice: no epoch for {allowed_s:.0f} s, where its longest took {silence.longest_s:.0f} s"
            )
        if self.bring is not None:
            self.bring(state_name(trial.config["trial_id"], PROCESS_FILE))
        kill_trial(self.run_dir, trial.config["trial_id"])


def kill_trial(run_dir: Path, trial_id: str) -> None:
    """End the process that a trial runs in. Does nothing if it, or its machine, is gone."""
    with suppress(RunError, ValueError, KeyError):
        where = read_object(process_file(run_dir, trial_id))
        task_on(where["node_id"], _kill).remote(where["pid"])


def _kill(pid: int) -> None:
    """Kill a process on the machine where this runs, if it is one of Ray's workers.

    Its number may belong to another process by now.
    """
    listing = subprocess.run(
        ["ps", "-ww", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    if listing.stdout.startswith("ray::"):
        os.kill(pid, signal.SIGKILL)
