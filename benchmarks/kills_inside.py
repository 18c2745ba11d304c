"""kill -9 inside a command, and what is found then: how `kills.py --inside` does it. The commands: `kills_cases.py`.

Each command is forked from this process, which has imported everything and computes nothing, and its process group is
killed. Half of the kills fall anywhere in the command, half shortly after it has begun to write something. Then the old
state or the new one must be there, complete. The next command must succeed and leave nothing half-written behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import launch.cli
import launch.cli.commands  # with the commands' imports, which each fork would repeat
import launch.cli.printing
import launch.models.ensembles
import launch.models.predictions
import launch.models.refit
from visionsweep.run_dir.lock import held

LONGEST_S = 120
# What is written beside its place, under the names that the project gives it.
HALF = re.compile(r"\.partial(-\d+)?$|\.tmp-\d+$|\.replaced-by-visionsweep$|^partial-|\.training$")


@dataclass
class Found:
    """The result of the kills of one command.

    kills    that hit a running command
    writing  of those, while something was half-written
    after    counted by the state that was left
    faults   sentences
    """

    kills: int = 0
    writing: int = 0
    after: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """A command whose result can be checked.

    command  its arguments
    before   restores the old state
    state    names the present state, such as old, or describes in a sentence what is wrong with it
    watched  the folder in which it writes
    again    what is run after the kill, to its end
    run      a run that another process works on meanwhile
    """

    command: list[str]
    before: Callable[[], None]
    state: Callable[[], str]
    watched: Path
    again: list[str]
    run: Path | None = None


def kill_inside(folder: Path, cases: list[Case], kills: int, rng: random.Random) -> Found:
    """Kill the command so many times, and look after each."""
    found = Found()
    for number in range(kills):
        case = cases[number % len(cases)]
        took_s, wrote_s = _measured(case, folder)
        case.before()
        for _ in range(5):  # a command may have ended before its moment comes
            if _killed(case, folder, rng, took_s, wrote_s, late=number % 2 == 1, found=found):
                break
            case.before()
        where = f"kill {number + 1}"
        state = case.state()
        found.after[state if state in ("none", "old", "new") else "wrong"] += 1
        if state not in ("none", "old", "new"):
            found.faults.append(f"{where}: {state}")
        if code := ended(case.again, folder):
            said = (folder / "log.txt").read_text()[-400:]
            found.faults.append(f"{where}: the next command ended with {code}: {said}")
        elif (state := case.state()) != "new":
            found.faults.append(f"{where}: after the next command: {state}")
        found.faults += [f"{where}: left behind after the next command: {one}" for one in half_written(case.watched)]
    return found


_MEASURED: dict[tuple[str, ...], tuple[float, float]] = {}


def _measured(case: Case, folder: Path) -> tuple[float, float]:
    """Measure once the seconds that the command takes, and how many of them come after it began to write."""
    key = tuple(case.command[:1])
    if key not in _MEASURED:
        case.before()
        started = time.monotonic()
        process = begun(case.again, folder)
        wrote = 0.0
        while (code := os.waitpid(process, os.WNOHANG))[0] == 0:
            if not wrote and half_written(case.watched):
                wrote = time.monotonic()
            time.sleep(0.002)
        if code[1]:
            raise RuntimeError(f"{' '.join(case.again)}: {(folder / 'log.txt').read_text()[-2000:]}")
        now = time.monotonic()
        _MEASURED[key] = now - started, now - wrote if wrote else 0.05
    return _MEASURED[key]


def _killed(
    case: Case, folder: Path, rng: random.Random, took_s: float, wrote_s: float, *, late: bool, found: Found
) -> bool:
    """Whether the command was still running when its moment came."""
    moment = rng.random()
    with held(case.run) if case.run else contextlib.nullcontext():
        process = begun(case.command, folder)
        until = time.monotonic() + LONGEST_S
        if late:
            while not half_written(case.watched) and time.monotonic() < until and not has_ended(process):
                time.sleep(0.0005)
        time.sleep(moment * (wrote_s if late else took_s))
        if has_ended(process):
            os.waitpid(process, 0)
            return False
        os.killpg(process, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
    found.kills += killed
    found.writing += killed and bool(half_written(case.watched))
    return killed


def has_ended(process: int) -> bool:
    """Whether a process has ended, without taking its exit code."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def half_written(folder: Path) -> list[str]:
    """Return the files below a folder that are being written, or were when their writer was killed."""
    walked = ((root, [*folders, *files]) for root, folders, files in os.walk(folder))
    return [f"{root}/{name}" for root, names in walked for name in names if HALF.search(name)]


def begun(command: list[str], folder: Path) -> int:
    """Start the command line in a fork, with a process group of its own."""

    def work() -> int:
        sys.argv = ["visionsweep", *command]
        launch.cli.main()
        return 0

    return forked(work, folder)


def forked(work: Callable[[], int], folder: Path) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads beside a fork
        child = os.fork()
    if child:
        with contextlib.suppress(OSError):  # the child does so too: the first of the two succeeds
            os.setpgid(child, child)
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(folder)
        code = work()
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(command: list[str], folder: Path) -> int:
    """Run a command to its end and return its exit code. Its output is in log.txt."""
    (folder / "log.txt").write_text("")
    return os.waitstatus_to_exitcode(os.waitpid(begun(command, folder), 0)[1])


def in_a_fork(work: Callable[[], str], folder: Path) -> str:
    """Return the result of `work`, or the exception as a sentence. torch would start threads in this process."""
    answer = folder / "answer.txt"

    def told() -> int:
        try:
            answer.write_text(work())
        except Exception as error:
            answer.write_text(f"{type(error).__name__}: {error}")
        return 0

    answer.unlink(missing_ok=True)
    code = os.waitstatus_to_exitcode(os.waitpid(forked(told, folder), 0)[1])
    return answer.read_text() if answer.exists() else f"a check that ended with {code}"
