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

import ray
from ray.tune import Callback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from launch.trial_notes import TrialNotes
from trainables.stored_rows import PROCESS_FILE
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_object
from visionsweep.core.safe_path import trial_folder

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
        silence = self._heard(trial, begun="epoch" in result)  # the measurement of its first batches is no epoch
        silence.longest_s = max(silence.longest_s, float(result.get("seconds", 0.0)))
        if result.get("epoch", 0) > silence.last:
            silence.last = result["epoch"]
            if trial.config["trial_id"] not in self.notes.given_up:
                # It has come further, so its configuration was not what killed it. On machines that come and go a long
                # trial dies more often than a bad one.
                trial.run_metadata.num_failures = 0

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
        silence.since = time.monotonic()
        silence.begun = begun
        return silence

    def _look(self, trial: Any, silence: _Silence, now: float) -> None:
        allowed_s = max(LEAST_S if silence.begun else FIRST_S, FACTOR * silence.longest_s)
        if now - silence.since < allowed_s:
            return
        silence.since = now
        silence.begun = False
        silence.hangs = silence.hangs + 1
        if silence.hangs > 1:
            trial.run_metadata.num_failures = self.retries  # the next failure is its last
            self.notes.given_up[trial.config["trial_id"]] = (
                f"hung twice: no epoch for {allowed_s:.0f} s, where its longest took {silence.longest_s:.0f} s"
            )
        if self.bring is not None:
            self.bring(f"checkpoints/{trial.config['trial_id']}/{PROCESS_FILE}")
        kill_trial(self.run_dir, trial.config["trial_id"])


def kill_trial(run_dir: Path, trial_id: str) -> None:
    """End the process that a trial runs in. Does nothing if it, or its machine, is gone."""
    with suppress(RunError, ValueError, KeyError):
        where = read_object(trial_folder(run_dir, "checkpoints", trial_id) / PROCESS_FILE)
        there = NodeAffinitySchedulingStrategy(where["node_id"], soft=False)
        ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_kill).remote(where["pid"])


def _kill(pid: int) -> None:
    """Kill a process on the machine where this runs, if it is one of Ray's workers.

    Its number may belong to another process by now.
    """
    listing = subprocess.run(
        ["ps", "-ww", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    if listing.stdout.startswith("ray::"):
        os.kill(pid, signal.SIGKILL)
