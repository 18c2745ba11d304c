"""A real Ray cluster of several nodes on this machine, for tests and benchmarks that kill some of them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

BIN = Path(sys.executable).parent


LEAN = ("--object-store-memory=80000000", "--include-log-monitor=false")


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cluster:
    """A head, and the nodes that joined it, with one CPU each. Every node is a process group of its own.

    folder     a short path, as Ray's sockets lie in it
    ip         of the head. Other nodes name theirs when they join
    with_jobs  with a dashboard and a job server
    """

    folder: Path
    port: int = field(default_factory=free_port)
    dashboard: int = field(default_factory=free_port)
    client: int = field(default_factory=free_port)
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    drivers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ip: str = "127.0.0.1"
    with_jobs: bool = False
    num_started: int = 0

    @property
    def address(self) -> str:
        return f"{self.ip}:{self.port}"

    @property
    def url(self) -> str:
        """The address of the head's dashboard, if it has one."""
        return f"http://127.0.0.1:{self.dashboard}"

    @property
    def client_url(self) -> str:
        """The address of the head's server for Ray's client."""
        return f"ray://127.0.0.1:{self.client}"

    def start(self, *arguments: str, before: tuple[str, ...] = (), cpus: int = 1) -> subprocess.Popen[bytes]:
        log = self.folder / f"node{self.num_started}.log"
        # A port of its own for the agent that runs jobs, or another Ray of this machine has it.
        agent = f"--dashboard-agent-listen-port={free_port()}"
        own = [f"--num-cpus={cpus}", *([agent] if self.with_jobs else LEAN)]
        command = [*before, str(BIN / "ray"), "start", *arguments, *own, "--block", "--disable-usage-stats"]
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, env=self.environment())
        self.num_started += 1
        self.nodes.append(process)
        return process

    def head(self, *arguments: str, before: tuple[str, ...] = (), cpus: int = 1) -> None:
        # No process that nobody asks: each costs two busy cores seconds.
        client = f"--ray-client-server-port={self.client}"
        jobs = ("--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard}")
        place = (f"--port={self.port}", f"--temp-dir={self.folder / 'ray'}")
        asked = jobs if self.with_jobs else ("--include-dashboard=false", "--no-monitor")
        self.start("--head", *place, client, *asked, *arguments, before=before, cpus=cpus)
        self.wait_for(1, before)

    def join(self, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        process = self.start(f"--address={self.address}", before=before)
        self.wait_for(len(self.nodes))
        return process

    def environment(self) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0"}
        if not self.with_jobs:  # the agent that is spared is the one that runs jobs
            quiet["RAY_enable_metrics_collection"] = "0"
        return {**own, **quiet, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}

    def wait_for(self, count: int, before: tuple[str, ...] = ()) -> None:
        """Wait until `count` nodes are alive, as seen by a driver that is started with `before`."""
        code = (
            "import ray, sys, time\n"
            f"ray.init(address='{self.address}', log_to_driver=False, logging_level='ERROR')\n"
            f"while sum(n['Alive'] for n in ray.nodes()) < {count}: time.sleep(0.2)\n"
        )
        for _ in range(20):  # a head that is not there yet is asked again
            if self.nodes[-1].poll() is not None:
                raise AssertionError((self.folder / f"node{self.num_started - 1}.log").read_text()[-2000:])
            done = subprocess.run(
                [*before, sys.executable, "-c", code],
                env=self.environment(), capture_output=True, timeout=180, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                return
            time.sleep(0.5)
        raise AssertionError(done.stderr.decode()[-2000:])

    def visionsweep(self, folder: Path, *arguments: object, own: Mapping[str, str] | None = None) -> Said:
        """Run a command to its end. own: environment variables to set, where an empty value removes one."""
        environment = {**self.environment(), "VISIONSWEEP_CACHE_DIR": str(folder / "cache"), **(own or {})}
        ended = subprocess.run(
            [str(BIN / "visionsweep"), *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=180,
            env={key: value for key, value in environment.items() if value}, check=False,
        )  # fmt: skip
        return Said(ended.returncode, ended.stdout, ended.stderr)

    def started(
        self, folder: Path, *arguments: object, log: Path, before: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a command in the background. Its output is added to `log`."""
        with log.open("ab") as out:
            driver = subprocess.Popen(
                [*before, str(BIN / "visionsweep"), *map(str, arguments)], cwd=folder, stdout=out, stderr=out,
                env={**self.environment(), "VISIONSWEEP_CACHE_DIR": str(folder / "cache")}, start_new_session=True,
            )  # fmt: skip
        self.drivers.append(driver)
        return driver

    def stop(self) -> None:
        for process in (*self.drivers, *reversed(self.nodes)):
            kill(process)
        shutil.rmtree(self.folder / "ray", ignore_errors=True)


def kill(process: subprocess.Popen[bytes]) -> None:
    """A node, or a driver, with all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
