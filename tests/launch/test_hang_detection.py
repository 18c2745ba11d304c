"""Trials that hang: a stopped process (SIGSTOP) is one that shows no epoch and cannot end itself."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import TINY_SPACE, Outcome, lines, tiny_search

from launch.search import hang_detection as module
from launch.search.hang_detection import HangDetector
from search_spaces import Float
from trainables.stored_rows import PROCESS_FILE

pytestmark = pytest.mark.with_ray(turn=10)

SPACE = {**TINY_SPACE, "optimizer": {"name": "sgd", "lr": Float(1e-3, 0.1, log=True)}}


@dataclass
class Running:
    trial_id: str
    status: str = "RUNNING"
    run_metadata: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(num_failures=0))

    @property
    def config(self) -> dict[str, str]:
        return {"trial_id": self.trial_id}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[HangDetector, list[str], Callable[[float], None]]:
    """A watch, the trials that it has had killed, and a clock to be moved on."""
    killed: list[str] = []
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "kill_trial", lambda run_dir, trial_id: killed.append(trial_id))
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    found = HangDetector(tmp_path, retries=2)

    def wait(seconds: float) -> None:
        clock.now += seconds

    return found, killed, wait


def test_a_trial_is_allowed_ten_times_its_longest_epoch_and_two_minutes_at_least(watched: Any) -> None:
    watch, killed, wait = watched
    slow = Running("0000")
    quick = Running("0001")
    for trial, seconds in ((slow, 60.0), (quick, 0.5)):
        watch.on_trial_start(1, [], trial)
        for one in (seconds, seconds / 2):
            watch.on_trial_result(1, [], trial, {"seconds": one, "epoch": 1})
    wait(119)
    watch.on_step_end(1, [slow, quick])
    assert killed == []
    wait(2)
    watch.on_step_end(1, [slow, quick])
    assert killed == ["0001"]
    wait(480)
    watch.on_step_end(1, [slow, quick])
    assert "0000" in killed


def test_a_first_epoch_may_take_long_and_a_trial_that_waits_is_not_looked_at(watched: Any) -> None:
    watch, killed, wait = watched
    fresh = Running("0000")
    paused = Running("0001", "PAUSED")
    for trial in (fresh, paused):
        watch.on_trial_start(1, [], trial)
    wait(1700)
    watch.on_step_end(1, [fresh, paused])
    assert killed == []
    wait(200)
    watch.on_step_end(1, [fresh, paused])
    assert killed == ["0000"]


def test_the_second_hang_is_the_last_and_says_why(watched: Any) -> None:
    watch, killed, wait = watched
    trial = Running("0000")
    watch.on_trial_start(1, [], trial)
    watch.on_trial_result(1, [], trial, {"seconds": 20.0, "epoch": 1})
    wait(201)
    watch.on_step_end(1, [trial])
    assert trial.run_metadata.num_failures == 0
    assert watch.notes.given_up == {}
    watch.on_trial_recover(1, [], trial)
    wait(201)
    watch.on_step_end(1, [trial])
    assert watch.notes.given_up == {}, "a new process may take its time"
    watch.on_trial_result(1, [], trial, {"seconds": 19.0, "epoch": 2})
    wait(201)
    watch.on_step_end(1, [trial])
    assert trial.run_metadata.num_failures == 2
    assert watch.notes.given_up == {"0000": "hung twice: no epoch for 200 s, where its longest took 20 s"}
    assert killed == ["0000", "0000"]


def test_only_deaths_without_a_new_epoch_between_them_count_against_a_trial(watched: Any) -> None:
    watch, _, wait = watched
    trial = Running("0000")
    watch.on_trial_start(1, [], trial)
    watch.on_trial_result(1, [], trial, {"seconds": 1.0, "epoch": 1})
    trial.run_metadata.num_failures = 2
    watch.on_trial_recover(1, [], trial)
    watch.on_trial_result(1, [], trial, {"seconds": 1.0, "epoch": 1})
    assert trial.run_metadata.num_failures == 2, "the same epoch once more is no progress"
    watch.on_trial_result(1, [], trial, {"seconds": 1.0, "epoch": 2})
    assert trial.run_metadata.num_failures == 0
    for _ in range(2):
        wait(121)
        watch.on_step_end(1, [trial])
    watch.on_trial_result(1, [], trial, {"seconds": 1.0, "epoch": 3})
    wait(121)
    watch.on_step_end(1, [trial])
    assert watch.notes.given_up
    assert trial.run_metadata.num_failures == 2, "one that hung twice is given up, whatever it shows"
    watch.on_trial_result(1, [], trial, {"seconds": 1.0, "epoch": 4})
    assert trial.run_metadata.num_failures == 2


def stop_twice(run_dir: Path, stopped_at: list[int]) -> None:
    """Stop the process of trial 0000, and again once its successor has shown an epoch."""
    last_pid = 0
    for _ in range(2):
        before = len(lines(run_dir / "epochs.jsonl"))
        for _ in range(3600):  # a new process takes a minute on a machine that is busy
            time.sleep(0.05)
            found = [row for row in lines(run_dir / "epochs.jsonl") if row["trial_id"] == "0000"]
            if len(found) > before + 1 and found[-1]["pid"] != last_pid:
                last_pid = json.loads((run_dir / "checkpoints" / "0000" / PROCESS_FILE).read_text())["pid"]
                os.kill(last_pid, signal.SIGSTOP)
                stopped_at.append(found[-1]["epoch"])
                break


@pytest.mark.usefixtures("ray_session")
def test_a_hung_trial_goes_on_in_another_process_once_and_the_search_goes_on_without_it(
    visionsweep: Callable[..., Outcome], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_S", 8.0)
    monkeypatch.setattr(module, "FACTOR", 2.0)
    (tmp_path / "tiny.py").write_text(tiny_search(space=SPACE, epochs=40))
    stopped_at: list[int] = []
    stopper = threading.Thread(target=stop_twice, args=(tmp_path / "runs" / "w", stopped_at))
    stopper.start()
    ran = visionsweep("run", "tiny.py", "--data", photos, "--trials", 2, "--max-concurrent", 1, "--name", "w")
    stopper.join()
    assert ran.code == 0, ran.err
    assert len(stopped_at) == 2
    assert stopped_at[1] > stopped_at[0], "the first time it resumed from its last epoch"
    ended = {row["trial_id"]: row for row in lines(tmp_path / "runs/w/trials.jsonl") if row["event"] == "ended"}
    assert (ended["0000"]["status"], ended["0001"]["status"]) == ("failed", "complete")
    assert ended["0000"]["reason"].startswith("hung twice: no epoch for 8 s")
    numbers = [row["epoch"] for row in lines(tmp_path / "runs/w/epochs.jsonl") if row["trial_id"] == "0000"]
    assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
    assert len(numbers) - len(set(numbers)) <= 1


def poison(run_dir: Path, killed: list[int], done: threading.Event) -> None:
    """Kill every process that begins trial 0000, like a configuration that crashes a driver or a library."""
    while not done.wait(0.02):
        with suppress(OSError, ValueError):  # not there yet, or not yet whole
            pid = json.loads((run_dir / "checkpoints" / "0000" / PROCESS_FILE).read_text())["pid"]
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)


@pytest.mark.usefixtures("ray_session")
def test_a_configuration_that_kills_its_process_every_time_has_failed_and_the_search_goes_on(
    visionsweep: Callable[..., Outcome], photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.py").write_text(tiny_search(space=SPACE, epochs=2))
    killed: list[int] = []
    done = threading.Event()
    killer = threading.Thread(target=poison, args=(tmp_path / "runs" / "p", killed, done))
    killer.start()
    try:
        ran = visionsweep("run", "tiny.py", "--data", photos, "--trials", 2, "--max-concurrent", 1, "--name", "p")
    finally:
        done.set()
        killer.join()
    assert ran.code == 0, ran.err
    assert len(killed) == 3, "it is tried again twice"
    ended = {row["trial_id"]: row for row in lines(tmp_path / "runs/p/trials.jsonl") if row["event"] == "ended"}
    assert (ended["0000"]["status"], ended["0001"]["status"]) == ("failed", "complete")
    assert ended["0000"]["reason"].startswith("its process died again and again, without a new epoch: ")
