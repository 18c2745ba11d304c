"""A search on a cluster under a kill every few seconds, beside the same search left in peace.

    python -m benchmarks.chaos [--trials 100] [--every 5] [--nodes 2] [--seed 0] [--kill-driver]
                               [--calm-s SECONDS]

A head without a CPU and some nodes with one each, all real Ray, run on this machine. A calm search of small trainings
on drawn digits comes first, then the same search under kills. Every `--every` seconds, kill -9 hits the process of a
trial or a whole node (its raylet). Another node replaces a killed one after some seconds. With --kill-driver also the
search itself is killed, and resumed at once.

Prints one line a kill, then three results:

    lost      must be nothing: every trial has a final status, every epoch occurs once
    repeated  at most one epoch of each trial that a kill hit
    slower    how much longer the search took
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.kills import Outcome, descendants, judge, lines, statuses, still_ended
from benchmarks.local_cluster import Cluster, kill

SEARCH = """
from search_spaces import Branch, Float, Search

SEARCH = Search(
    task="multiclass",
    space={
        "model": {"backbone": "test_resnet", "weights": "none"},
        "optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.3, log=True)}, "adam": {"lr": Float(1e-4, 1e-2, log=True)}}),
    },
    fixed={"batch_size": 64, "image_size": 32, "fit_image": "squash"},
    epochs=6,
    grace_epochs=2,
)
"""
JOIN_S = 5.0  # two nodes that start at once on one machine take the same socket, and one of them ends
STALLED_S = 120.0  # without a new line: something is stuck
Say = Callable[[str], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between kills, on average")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill-driver", action="store_true")
    parser.add_argument("--calm-s", type=float, help="what the search takes in peace, where that is known")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="vs-chaos-", dir="/tmp"))  # short: Ray's sockets lie in it
    cluster = Cluster(folder)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("stopped"))  # and leave no Ray behind
    try:
        (folder / "search.py").write_text(SEARCH)
        cluster.head(cpus=0)
        for _ in range(arguments.nodes):
            cluster.join()
        calm_s = calm(cluster, folder, arguments.trials) if arguments.calm_s is None else arguments.calm_s
        print(f"left in peace: {calm_s:.0f} s", flush=True)
        targets = ("worker", "worker", "node", *(("driver",) if arguments.kill_driver else ()))
        storm = Storm(cluster, folder, arguments.trials, arguments.every, targets, random.Random(arguments.seed))
        storm_s = storm.run(lambda line: print(line, flush=True))
    finally:
        cluster.stop()
    report(storm.outcome, calm_s, storm_s)
    if storm.outcome.lost:
        print(f"looked at in {folder}")
    else:
        shutil.rmtree(folder)


def report(outcome: Outcome, calm_s: float, storm_s: float) -> None:
    print(f"{sum(outcome.kills.values())} kills ({', '.join(f'{n} {who}' for who, n in outcome.kills.items())})")
    print(f"lost: {outcome.lost or 'nothing'}")
    print(f"epochs trained twice: {outcome.repeated} (at most {outcome.allowed} allowed)")
    print(f"trials: {', '.join(f'{count} {status}' for status, count in outcome.statuses.items())}")
    print(f"{storm_s:.0f} s against {calm_s:.0f} s in peace: {storm_s / calm_s:.2f} times as long")


def calm(cluster: Cluster, folder: Path, trials: int) -> float:
    """Seconds that the search takes when nothing happens to it."""
    began = time.monotonic()
    process = _search(cluster, folder, "calm", trials)
    process.wait()
    assert process.returncode == 0, (folder / "calm.log").read_text()[-2000:]
    return time.monotonic() - began


@dataclass
class Storm:
    """A search under kills.

    targets: what each kill chooses from. outcome.allowed: the epochs that may repeat.
    """

    cluster: Cluster
    folder: Path
    trials: int
    every_s: float
    targets: tuple[str, ...]
    rng: random.Random
    outcome: Outcome = field(default_factory=Outcome)
    joining: list[float] = field(default_factory=list)  # when a node is to be replaced
    joined: float = 0.0  # when the last one was
    ended: dict[str, str] = field(default_factory=dict)

    @property
    def run_dir(self) -> Path:
        return self.folder / "runs" / "storm"

    def run(self, say: Say) -> float:
        """Seconds until the search had ended by itself."""
        began = heard = time.monotonic()
        driver = _search(self.cluster, self.folder, "storm", self.trials)
        due = began + 15.0
        told = -1
        while driver.poll() != 0:
            time.sleep(0.1)
            now = time.monotonic()
            if (so_far := self._told()) != told:
                told = so_far
                heard = now
            if now - heard > STALLED_S:
                self.outcome.lost.append(f"nothing new for {STALLED_S:.0f} s after {self._progress()}")
                kill(driver)
                break
            if self.joining and max(self.joining[0], self.joined + JOIN_S) <= now:
                del self.joining[0]
                self.joined = now
                self.cluster.start(f"--address={self.cluster.address}")
            if driver.poll() not in (0, None):  # killed, or it says that its Ray is gone
                say(f"  the search ended with {driver.returncode}, and is resumed")
                self.ended = still_ended(self.run_dir, self.ended, self.outcome)
                driver = _resumed(self.cluster, self.folder)
            if now >= due and told > 0:
                self._strike(driver, say)
                due = now + self.every_s * self.rng.uniform(0.5, 1.5)
        still_ended(self.run_dir, self.ended, self.outcome)
        judge(self.run_dir, self.trials, self.outcome)
        self.outcome.lost += [f"left behind: {path}" for path in self.run_dir.rglob("*.partial")]
        unfinished = [status for status in self.outcome.statuses if status in ("running", "interrupted")]
        if unfinished:
            self.outcome.lost.append(f"trials without a final status: {unfinished}")
        return time.monotonic() - began

    def _strike(self, driver: subprocess.Popen[bytes], say: Say) -> None:
        target = self.rng.choice(self.targets)
        running = statuses(self.run_dir).count("running")
        victims = {
            "worker": [pid for node in self._nodes() for pid in _named(node.pid, "ray::")],
            "node": [node.pid for node in self._nodes() if _named(node.pid, "raylet")],
            "driver": [driver.pid] if driver.poll() is None else [],
        }[target]
        if not victims:
            return
        victim = self.rng.choice(victims)
        if target == "node":
            node = next(node for node in self._nodes() if node.pid == victim)
            os.kill(_named(victim, "raylet")[0], signal.SIGKILL)
            self.cluster.nodes.remove(node)
            self.joining.append(time.monotonic() + self.rng.uniform(2, 6))
        else:
            os.kill(victim, signal.SIGKILL)
        self.outcome.kills[target] += 1
        self.outcome.allowed += running if target == "driver" else 1
        say(f"kill {sum(self.outcome.kills.values())}: {target}, {self._progress()}")

    def _nodes(self) -> list[subprocess.Popen[bytes]]:
        """Return the nodes without the head."""
        return self.cluster.nodes[1:]

    def _told(self) -> int:
        files = (self.run_dir / name for name in ("trials.jsonl", "epochs.jsonl"))
        return sum(file.stat().st_size for file in files if file.exists())

    def _progress(self) -> str:
        num_ended = sum(status != "running" for status in statuses(self.run_dir))
        return f"{num_ended} trials ended, {len(lines(self.run_dir / 'epochs.jsonl'))} epochs"


def _named(root: int, name: str) -> list[int]:
    """Return the processes below `root` with `name` in their name, without idle workers and Ray's own agents."""
    found = descendants(root)
    return [pid for pid, title in found if name in title and not any(other in title for other in ("IDLE", "Agent"))]


def _search(cluster: Cluster, folder: Path, name: str, trials: int) -> subprocess.Popen[bytes]:
    command = ("run", "search.py", "--data", "digits", "--trials", trials, "--name", name, "--address", cluster.address)
    return cluster.started(folder, *command, log=folder / f"{name}.log")


def _resumed(cluster: Cluster, folder: Path) -> subprocess.Popen[bytes]:
    return cluster.started(folder, "resume", "runs/storm", "--address", cluster.address, log=folder / "storm.log")


if __name__ == "__main__":
    main()
