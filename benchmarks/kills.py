"""What a search loses when it is killed: kill -9 of the driver, a worker or the raylet at random moments, then resume.

    python -m benchmarks.kills [--kills 20] [--trials 12] [--seed 0]
    python -m benchmarks.kills --inside export ensemble refit cache report [--kills 20] [--seed 0]

A small search of real trainings on drawn digits is killed until so many kills have hit it, and resumed each time. Then
it runs to its end. Prints one line a kill, then:

    lost      trials that had ended and are gone, or have another end
    repeated  epochs trained twice: at most one of each running trial and kill is allowed
    ended     whether every trial ended

With --inside, other commands are killed so many times each, on a small finished run: see `kills_inside.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TARGETS = ("driver", "worker", "raylet")
INSIDE = ("export", "ensemble", "refit", "cache", "report")

SEARCH = """
from search_spaces import Branch, Float, Search

SEARCH = Search(
    task="multiclass",
    space={
        "model": {"backbone": "test_resnet", "weights": "none", "head": Branch({"linear": {}, "mish_mlp": {}})},
        "optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.3, log=True)}, "adam": {"lr": Float(1e-4, 1e-2, log=True)}}),
    },
    fixed={"batch_size": 64, "image_size": 32, "fit_image": "squash"},
    epochs=12,
    grace_epochs=3,
)
"""


@dataclass
class Outcome:
    """The result of the kills.

    kills     by target
    lost      sentences
    repeated  epochs trained twice
    statuses  how the trials ended
    """

    kills: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    repeated: int = 0
    allowed: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inside", nargs="+", choices=INSIDE, default=[], help="kill these commands instead")
    arguments = parser.parse_args()
    if arguments.inside:
        sys.exit(kill_commands(arguments.inside, arguments.kills, arguments.seed))
    with tempfile.TemporaryDirectory(prefix="visionsweep-kills-") as folder:
        outcome = search_under_kills(Path(folder), arguments.kills, arguments.trials, arguments.seed, _say)
    print(f"{sum(outcome.kills.values())} kills ({', '.join(f'{n} {who}' for who, n in outcome.kills.items())})")
    print(f"lost: {outcome.lost or 'nothing'}")
    print(f"epochs trained twice: {outcome.repeated} (at most {outcome.allowed} allowed)")
    print(f"trials: {', '.join(f'{count} {status}' for status, count in outcome.statuses.items())}")


def kill_commands(names: list[str], kills: int, seed: int) -> bool:
    """Kill each of the commands, print what was found then, and return whether anything was wrong."""
    with tempfile.TemporaryDirectory(prefix="visionsweep-kills-") as name:
        folder = Path(name)
        os.environ |= {"VISIONSWEEP_CACHE_DIR": f"{folder}/cache", "XDG_STATE_HOME": f"{folder}/state", "TMPDIR": name}
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin starve a machine that does other things
        # what the commands import, which the searches above need not wait for
        from benchmarks.kills_cases import CASES, make
        from benchmarks.kills_inside import kill_inside

        make(folder)
        faults = 0
        for command in names:
            started = time.monotonic()
            rng = random.Random(f"{seed} {command}")
            found = kill_inside(folder, CASES[command](folder), kills, rng)
            after = ", ".join(f"{count} {state}" for state, count in sorted(found.after.items()))
            _say(
                f"{command:8} {found.kills} kills, {found.writing} of them while it wrote; then {after}; "
                f"faults {len(found.faults)} ({time.monotonic() - started:.0f} s)"
            )
            for sentence in found.faults:
                _say(f"  {sentence}")
            faults += len(found.faults)
    return faults > 0


def _say(line: str) -> None:
    print(line, flush=True)


def search_under_kills(
    folder: Path, kills: int, trials: int, seed: int, say: Callable[[str], object] = lambda line: None
) -> Outcome:
    """Run the search in `folder`, kill it `kills` times, and check what its run directory holds at the end."""
    rng = random.Random(seed)
    outcome = Outcome()
    (folder / "search.py").write_text(SEARCH)
    run_dir = folder / "runs" / "killed"
    process = _start(["run", "search.py", "--data", "digits", "--trials", str(trials), "--name", "killed"], folder)
    ended: dict[str, str] = {}
    while sum(outcome.kills.values()) < kills:
        if not _next_epoch(run_dir, process):
            outcome.lost.append("no epoch for two minutes")
            break
        time.sleep(rng.uniform(0, 1.5))
        if process.poll() is None:
            target = rng.choice(TARGETS)
            running = statuses(run_dir).count("running")
            if _kill(process, target, rng):
                outcome.kills[target] += 1
                outcome.allowed += running
                say(f"kill {sum(outcome.kills.values())}: {target}, {_epochs(run_dir)} epochs recorded")
            if target == "worker" and not _ends(process, 1.0):
                continue  # the search replaces it by itself
            if not _ends(process, 30):
                outcome.lost.append("a driver that lost its raylet, and has not noticed")
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        ended = still_ended(run_dir, ended, outcome)
        now = statuses(run_dir)
        more = 4 if "running" not in now and len(now) >= trials and process.returncode == 0 else 0
        trials += more
        process = _start(["resume", str(run_dir), "--trials", f"+{more}"], folder)
    process.wait()
    if process.returncode != 0:
        _start(["resume", str(run_dir)], folder).wait()
    still_ended(run_dir, ended, outcome)
    judge(run_dir, trials, outcome)
    return outcome


def judge(run_dir: Path, trials: int, outcome: Outcome) -> None:
    rows = [(row["trial_id"], row["epoch"]) for row in lines(run_dir / "epochs.jsonl")]
    outcome.repeated = len(rows) - len(set(rows))
    for trial_id in sorted({trial_id for trial_id, _ in rows}):
        epochs = sorted({epoch for one, epoch in rows if one == trial_id})
        if epochs != list(range(1, len(epochs) + 1)):
            outcome.lost.append(f"trial {trial_id} has epochs {epochs}")
    proposed = [row["trial_id"] for row in lines(run_dir / "trials.jsonl") if row["event"] == "proposed"]
    if len(proposed) != len(set(proposed)) or len(proposed) != trials:
        outcome.lost.append(f"{len(proposed)} proposals of {len(set(proposed))} trials, {trials} asked for")
    outcome.statuses = Counter(statuses(run_dir))


def _next_epoch(run_dir: Path, process: subprocess.Popen[bytes]) -> bool:
    before = _epochs(run_dir)
    return wait(lambda: _epochs(run_dir) > before or process.poll() is not None, 120)


def _ends(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    return wait(lambda: process.poll() is not None, timeout_s)


def _start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("visionsweep")), *arguments]
    own = {**os.environ, "VISIONSWEEP_CACHE_DIR": str(folder / "cache")}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True, env=own)


def _kill(process: subprocess.Popen[bytes], target: str, rng: random.Random) -> bool:
    if target == "driver":
        process.kill()
        return True
    names = {"worker": "ray::", "raylet": "raylet"}[target]
    found = [pid for pid, name in descendants(process.pid) if names in name and "IDLE" not in name]
    if not found:
        return False
    os.kill(rng.choice(found), signal.SIGKILL)
    return True


def descendants(root: int) -> list[tuple[int, str]]:
    """Return (pid, first word of the command line) of all processes below `root`, from /proc."""
    parents = {}
    names = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            except (OSError, IndexError):
                continue
    below = {root}
    found = []
    for pid in sorted(parents):
        if parents[pid] in below:
            below.add(pid)
            found.append((pid, Path(names[pid]).name if "/" in names[pid] else names[pid]))
    return found


def still_ended(run_dir: Path, before: dict[str, str], outcome: Outcome) -> dict[str, str]:
    """Return how each ended trial ended. A trial of `before` that has another end now is added to `outcome.lost`."""
    now: dict[str, str] = {}
    for row in lines(run_dir / "trials.jsonl"):
        if row["event"] == "ended" and row["status"] != "interrupted":
            now[row["trial_id"]] = row["status"]
        elif row["event"] == "started":
            now.pop(row["trial_id"], None)
    outcome.lost += [
        f"trial {one} was {status} and is {now.get(one)}" for one, status in before.items() if now.get(one) != status
    ]
    return now


def statuses(run_dir: Path) -> list[str]:
    last: dict[str, str] = {}
    for row in lines(run_dir / "trials.jsonl"):
        last[row["trial_id"]] = row["status"] if row["event"] == "ended" else "running"
    return list(last.values())


def _epochs(run_dir: Path) -> int:
    return len(lines(run_dir / "epochs.jsonl"))


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


if __name__ == "__main__":
    main()
