"""classification-cpu on your photos, on a cluster of two nodes that loses one of them half way.

    python -m benchmarks.two_nodes FOLDER [--trials 6] [--budget 4m] [--set key=value ...]

A head and one more node, with one CPU each, all real Ray, run on this machine. Once half of the trials have ended, or
half of the budget is spent, the second node is killed, with all that runs on it. The search continues on the head.
Prints how the trials ended, on which node they trained, and what the loss of the node cost.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.kills import Outcome, descendants, judge, lines, statuses
from benchmarks.local_cluster import Cluster, kill
from launch.cli.loading import parse_duration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--search", default="classification-cpu")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--budget", default="4m")
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="vs-two-", dir="/tmp"))  # short: Ray's sockets lie in it
    run_dir = folder / "runs" / "two"
    cluster = Cluster(folder)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("stopped"))  # and leave no Ray behind
    try:
        cluster.head()
        second = cluster.join()
        began = time.monotonic()
        command = ["run", arguments.search, "--data", arguments.folder.resolve(), "--trials", arguments.trials]
        command += ["--budget", arguments.budget, "--name", "two", "--address", cluster.address]
        command += [part for assignment in arguments.assignments for part in ("--set", assignment)]
        driver = cluster.started(folder, *command, log=folder / "log")
        half_s = parse_duration(arguments.budget) / 2
        while driver.poll() is None and not half_way(run_dir, arguments.trials, time.monotonic() - began, half_s):
            time.sleep(0.2)
        cut_s = time.monotonic() - began
        there = set(_below(run_dir))
        lost_pids = pids_of(second.pid)
        kill(second)
        driver.wait()
        wall_s = time.monotonic() - began
    finally:
        cluster.stop()
    report(run_dir, driver.returncode, cut_s, wall_s, there, lost_pids)
    shutil.rmtree(folder)


def half_way(run_dir: Path, trials: int, elapsed_s: float, half_s: float) -> bool:
    """And at least two trials are running, so that there is something to lose."""
    found = statuses(run_dir)
    ended = len(found) - found.count("running")
    return found.count("running") >= 2 and (2 * ended >= trials or elapsed_s > half_s) and len(_below(run_dir)) > 0


def pids_of(root: int) -> set[int]:
    return {pid for pid, _ in descendants(root)}


def _below(run_dir: Path) -> list[tuple[str, int]]:
    return [(row["trial_id"], row["epoch"]) for row in lines(run_dir / "epochs.jsonl")]


def report(
    run_dir: Path, code: int, cut_s: float, wall_s: float, before: set[tuple[str, int]], lost_pids: set[int]
) -> None:
    """Trials by node and status. The nodes share this machine's address: a node is known by the processes it had."""
    outcome = Outcome()
    events = lines(run_dir / "trials.jsonl")
    judge(run_dir, len({row["trial_id"] for row in events}), outcome)
    last = {row["trial_id"]: row for row in events if row["event"] == "ended"}
    print(f"the search ended with {code} after {wall_s:.0f} s; the second node was killed after {cut_s:.0f} s")
    for trial_id, row in sorted(last.items()):
        rows = [one for one in lines(run_dir / "epochs.jsonl") if one["trial_id"] == trial_id]
        nodes = Counter("second" if one["pid"] in lost_pids else "first" for one in rows)
        where = ", ".join(f"{count} epochs on the {node}" for node, count in nodes.items()) or "no epoch"
        print(f"trial {trial_id} {row['status']}: {where}")
    print(f"after the loss: {len(set(_below(run_dir)) - before)} epochs more, {outcome.repeated} trained twice")
    print(f"lost: {outcome.lost or 'nothing'}; trials: {dict(outcome.statuses)}")


if __name__ == "__main__":
    main()
