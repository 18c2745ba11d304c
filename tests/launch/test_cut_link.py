"""Two machines as network namespaces with their own addresses. The link to one of them is cut."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import TINY_SPACE, lines, make_photos, moved, tiny_search, wait_until

from benchmarks.local_cluster import Cluster
from search_spaces import Float

pytestmark = pytest.mark.with_ray(turn=13)

SPACE = {**TINY_SPACE, "optimizer": {"name": "sgd", "lr": Float(1e-3, 0.1, log=True)}}
# A machine without a sign of life is given up after a few seconds, where Ray otherwise takes half a minute.
HASTY = {"health_check_initial_delay_ms": 2000, "health_check_period_ms": 1000, "health_check_timeout_ms": 2000}


@dataclass
class Network:
    """A bridge with two namespaces, NAME-1 and NAME-2, at 10.231.N.1 and .2."""

    name: str
    third: int

    def address(self, number: int) -> str:
        return f"10.231.{self.third}.{number}"

    def inside(self, number: int) -> tuple[str, ...]:
        return ("ip", "netns", "exec", f"{self.name}-{number}")

    def up(self) -> None:
        ip("link", "add", self.name, "type", "bridge")
        ip("link", "set", self.name, "up")
        for number in (1, 2):
            outer = f"{self.name}{number}"
            inner = f"{self.name}-{number}"
            ip("netns", "add", inner)
            ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", inner)
            ip("link", "set", outer, "master", self.name, "up")
            for command in (f"addr add {self.address(number)}/24 dev eth0", "link set eth0 up", "link set lo up"):
                ip("-n", inner, *command.split())

    def link(self, number: int, state: str) -> None:
        ip("link", "set", f"{self.name}{number}", state)

    def down(self) -> None:
        for number in (1, 2):
            subprocess.run(["ip", "netns", "del", f"{self.name}-{number}"], capture_output=True, check=False)
            subprocess.run(["ip", "link", "del", f"{self.name}{number}"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.name], capture_output=True, check=False)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network(f"vs{os.getpid() % 10**6}", os.getpid() % 250)
    try:
        try:
            made.up()
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("network namespaces need rights that this machine does not give")
        yield made
    finally:
        made.down()


@pytest.fixture
def cluster(network: Network) -> Iterator[Cluster]:
    folder = Path("/tmp") / f"vs-{os.getpid()}-net"  # short: Ray's sockets lie in it
    folder.mkdir()
    started = Cluster(folder, ip=network.address(1))
    try:
        options = (f"--node-ip-address={network.address(1)}", f"--system-config={json.dumps(HASTY)}")
        started.head(*options, before=network.inside(1))
        started.start(
            f"--address={started.address}", f"--node-ip-address={network.address(2)}", before=network.inside(2)
        )
        started.wait_for(2, before=network.inside(1))
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(400)
def test_the_search_goes_on_when_the_link_to_a_machine_is_cut(
    network: Network, cluster: Cluster, tmp_path: Path
) -> None:
    make_photos(tmp_path / "photos", {"red": 24, "blue": 24})
    (tmp_path / "search.py").write_text(tiny_search(space=SPACE, epochs=30))
    run_dir = tmp_path / "runs" / "cut"
    arguments = ("run", "search.py", "--data", "photos", "--trials", 2, "--name", "cut", "--address", cluster.address)
    driver = cluster.started(tmp_path, *arguments, log=tmp_path / "log", before=network.inside(1))
    # Both machines work: each trial has a process, each on its own machine.
    wait_until(lambda: len({row["trial_id"] for row in lines(run_dir / "epochs.jsonl")}) == 2, seconds=150)
    network.link(2, "down")
    wait_until(lambda: driver.poll() is not None or moved(run_dir), seconds=150)
    network.link(2, "up")  # too late: Ray has given the machine up, and it goes
    driver.wait(timeout=240)
    assert driver.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    ended = [row for row in lines(run_dir / "trials.jsonl") if row["event"] == "ended"]
    assert sorted((row["trial_id"], row["status"]) for row in ended) == [("0000", "complete"), ("0001", "complete")]
    numbers = [(row["trial_id"], row["epoch"]) for row in lines(run_dir / "epochs.jsonl")]
    assert len(set(numbers)) == 2 * 30
    assert len(numbers) - len(set(numbers)) <= 1, "at most one epoch of the one trial whose machine was cut off"
