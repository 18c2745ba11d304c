"""Signals that end a search, at different times. Each search is a process of its own, with a Ray of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import lines, tiny_search, wait_until

from launch.cli.signals import exit_code, finishing, kept_handlers, listening, raise_if_asked

pytestmark = pytest.mark.with_ray(turn=8)

BIN = Path(sys.executable).parent
# A minute and a half at most on a busy machine: half a minute for Ray's start, and a minute for trials that do not
# reach the end of their batch.
ENDS_WITHIN_S = 90.0


@contextmanager
def ignored(*numbers: int) -> Iterator[None]:
    """Let processes that are started meanwhile ignore these signals, as in a script's background or under nohup."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture
def search(work: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a search in `work`, with Ray in a short folder like `work / tmp`. Its output goes to out.log."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*, epochs: int = 100_000, name: str = "s", command: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        (work / "long.py").write_text(tiny_search(task="binary", epochs=epochs))
        arguments = ["run", "long.py", "--data", "photos", "--trials", "2", "--max-concurrent", "1"]
        arguments += ["--name", name, "--no-cache"]
        with (work / "out.log").open("ab") as out:
            process = subprocess.Popen(
                [*command, str(BIN / "visionsweep"), *arguments],
                cwd=work,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def processes_of(session: int) -> list[str]:
    """Return the whole command lines (-ww, whatever COLUMNS is) of the processes left in a session."""
    said = subprocess.run(["ps", "-ww", "-s", str(session), "-o", "args="], capture_output=True, text=True, check=False)
    return [line for line in said.stdout.splitlines() if "defunct" not in line]


BEFORE_THE_TRIALS = """
import os, signal, time
from launch.machines.cluster import local_ray, ready
from launch.cli.signals import listening

try:
    with listening(), local_ray(num_cpus=1):
        ready()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
except KeyboardInterrupt:
    print("ended")
"""


def test_sigterm_between_rays_start_and_the_first_trial_is_ours_not_rays() -> None:
    ended = subprocess.run([sys.executable, "-c", BEFORE_THE_TRIALS], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended\n", "")


def test_sigterm_while_ray_starts_ends_ray_too(search: Callable[..., subprocess.Popen[bytes]], work: Path) -> None:
    running = search()
    wait_until(lambda: any("gcs_server" in line for line in processes_of(running.pid)), running, 180)
    began = time.monotonic()
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=ENDS_WITHIN_S) == 143, (work / "out.log").read_text()
    said = (work / "out.log").read_text()
    assert "visionsweep: stopped. What had begun resumes" in said
    assert "Traceback" not in said
    assert time.monotonic() - began < ENDS_WITHIN_S
    wait_until(lambda: not processes_of(running.pid), seconds=20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_in_the_background_of_a_script_a_signal_ends_the_trials_and_the_ranking_is_printed(
    search: Callable[..., subprocess.Popen[bytes]], work: Path, number: int
) -> None:
    with ignored(signal.SIGINT):
        running = search()
    wait_until(lambda: len(lines(work / "runs" / "s" / "epochs.jsonl")) >= 4, running, 180)
    running.send_signal(signal.SIGINT)  # which a script's own Ctrl-C sends to all of its processes
    running.send_signal(number)
    assert running.wait(timeout=ENDS_WITHIN_S) == 0, (work / "out.log").read_text()
    said = (work / "out.log").read_text()
    assert "Stopping: running trials end after their current batch." in said
    assert "Best so far (interrupted after" in said
    assert "Traceback" not in said
    ended = [row["status"] for row in lines(work / "runs" / "s" / "trials.jsonl") if row["event"] == "ended"]
    assert set(ended) == {"interrupted"}
    wait_until(lambda: not processes_of(running.pid), seconds=20)


def test_nohup_and_a_reader_that_leaves_end_no_search(
    search: Callable[..., subprocess.Popen[bytes]], work: Path
) -> None:
    piped = ("sh", "-c", '"$@" | head -n 1; wait', "sh")
    with ignored(signal.SIGHUP):
        running = search(epochs=20, command=piped)
    wait_until(lambda: len(lines(work / "runs" / "s" / "epochs.jsonl")) >= 2, running, 180)
    os.killpg(running.pid, signal.SIGHUP)
    running.wait(timeout=ENDS_WITHIN_S)
    wait_until(
        lambda: sum(row["event"] == "ended" for row in lines(work / "runs" / "s" / "trials.jsonl")) == 2, seconds=180
    )
    ended = [row["status"] for row in lines(work / "runs" / "s" / "trials.jsonl") if row["event"] == "ended"]
    assert ended == ["complete", "complete"]
    said = (work / "out.log").read_text()
    assert "photos: 48 images" in said  # after the message of a slow start
    assert "Broken pipe" not in said
    assert "BrokenPipe" not in said
    wait_until(lambda: not processes_of(running.pid), seconds=30)


def test_a_signal_while_something_is_finished_is_noted_and_a_second_one_ends_it() -> None:
    done: list[str] = []

    def finish() -> None:
        with finishing():
            signal.raise_signal(signal.SIGTERM)
            done.append("went on")
            signal.raise_signal(signal.SIGTERM)
            done.append("never")

    with listening():
        with pytest.raises(KeyboardInterrupt):
            finish()
        with pytest.raises(KeyboardInterrupt):
            raise_if_asked()
        assert exit_code() == 143
    assert done == ["went on"]


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    with ignored(signal.SIGHUP), listening():
        signal.raise_signal(signal.SIGHUP)
    before = signal.getsignal(signal.SIGTERM)
    with listening(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_library_that_takes_a_signal_over_gives_it_back() -> None:
    with listening(), kept_handlers():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    before = signal.getsignal(signal.SIGTERM)
    with kept_handlers():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == before
