"""Searches on a real cluster: two Ray nodes on this machine, joined, looked over, and robbed of one of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from s3_server import S3Server, keys, stored, upload_folder
from support import Outcome, make_photos

BIN = Path(sys.executable).parent
TINY = """
from search_spaces import Float, Pick, Search

SEARCH = Search(
    task="classification",
    space={"model": {"backbone": Pick("test_resnet", "test_efficientnet")},
           "optimizer": {"name": "sgd", "lr": Float(1e-3, 0.1, log=True)}, "batch_size": 8},
    fixed={"model": {"weights": "none"}, "image_size": 32},
    epochs=EPOCHS, grace_epochs=EPOCHS,
)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cluster:
    """A head with one CPU, and what was joined to it. Every node is a process group of its own."""

    folder: Path
    port: int = field(default_factory=free_port)
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        log = self.folder / f"node{len(self.nodes)}.log"
        command = [*before, str(BIN / "ray"), "start", *arguments, "--num-cpus=1", "--block", "--disable-usage-stats"]
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, env=self.environment())
        self.nodes.append(process)
        return process

    def head(self) -> None:
        self.start("--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder / 'ray'}")
        self.wait_for(1)

    def join(self, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        process = self.start(f"--address={self.address}", before=before)
        self.wait_for(len(self.nodes))
        return process

    def environment(self) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return {**own, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}

    def wait_for(self, count: int) -> None:
        code = (
            "import ray, sys, time\n"
            f"ray.init(address='{self.address}', log_to_driver=False, logging_level='ERROR')\n"
            f"while sum(n['Alive'] for n in ray.nodes()) < {count}: time.sleep(0.2)\n"
        )
        for _ in range(20):
            done = subprocess.run(
                [sys.executable, "-c", code], env=self.environment(), capture_output=True, timeout=60, check=False
            )
            if done.returncode == 0:
                return
            time.sleep(0.5)
        raise AssertionError(done.stderr.decode()[-2000:])

    def visionsweep(self, folder: Path, *arguments: object) -> Outcome:
        ended = subprocess.run(
            [str(BIN / "visionsweep"), *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=180,
            env={**self.environment(), "VISIONSWEEP_CACHE_DIR": str(folder / "cache")}, check=False,
        )  # fmt: skip
        return Outcome(ended.returncode, ended.stdout, ended.stderr)

    def stop(self) -> None:
        for process in reversed(self.nodes):
            kill(process)
        shutil.rmtree(self.folder / "ray", ignore_errors=True)


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(Path("/tmp") / f"vs-{os.getpid()}")  # short: Ray's sockets lie in it
    started.folder.mkdir()
    try:
        started.head()
        started.join()
        yield started
    finally:
        started.stop()
        shutil.rmtree(started.folder, ignore_errors=True)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    make_photos(tmp_path / "photos", {"red": 24, "blue": 24})
    return tmp_path


def tiny(folder: Path, epochs: int) -> Path:
    path = folder / "tiny.py"
    path.write_text(TINY.replace("EPOCHS", str(epochs)))
    return path


def test_check_says_what_every_machine_has_and_what_a_trial_needs(cluster: Cluster, work: Path) -> None:
    said = cluster.visionsweep(work, "check", tiny(work, 2), "--data", "photos", "--address", cluster.address)
    assert said.code == 0, said.out + said.err
    assert said.out.count("1 CPUs, ") == 2
    assert "(this machine)" in said.out
    assert "seen alike by all 2 machines" in said.out
    assert "; 2 at once" in said.out
    assert "GB of memory" in said.out
    assert "NO " not in said.out
    assert not list((work / "runs").glob("*")), "nothing is left behind"


@dataclass
class Apart:
    """A cluster whose second node has another `folder` than the first one: empty, and its own."""

    cluster: Cluster
    folder: Path


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    hidden = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {folder} && exec "$@"', "sh")
    if subprocess.run([*hidden, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounts of a node's own need rights that this machine does not give")
    make_photos(folder / "photos", {"red": 24, "blue": 24})
    alone = Cluster(Path("/tmp") / f"vs-{os.getpid()}-hidden")
    alone.folder.mkdir()
    try:
        alone.head()
        alone.join(before=hidden)
        yield Apart(alone, folder)
    finally:
        alone.stop()
        shutil.rmtree(alone.folder, ignore_errors=True)


def test_a_folder_that_one_machine_does_not_share_is_refused_before_there_is_a_run(apart: Apart) -> None:
    search, address = tiny(apart.folder, 1), apart.cluster.address
    refused = apart.cluster.visionsweep(
        apart.folder, "run", search, "--data", "photos", "--name", "b", "--address", address
    )
    assert refused.code == 2, refused.out + refused.err
    assert "the machines of the cluster do not fit together" in refused.err
    assert "photos is not there" in refused.err
    assert "not the driver's folder" in refused.err
    assert "Put it on a folder that all machines share" in refused.err
    assert not (apart.folder / "runs" / "b").exists()


def test_machines_that_share_no_folder_search_together_with_data_and_run_on_s3(
    apart: Apart, bucket: str, s3_server: S3Server
) -> None:
    upload_folder(apart.folder / "photos", bucket, "photos")
    ran = apart.cluster.visionsweep(
        apart.folder, "run", tiny(apart.folder, 4), "--data", f"s3://{bucket}/photos", "--trials", 4, "--name", "d",
        "--runs-dir", f"s3://{bucket}/runs", "--address", apart.cluster.address,
    )  # fmt: skip
    assert ran.code == 0, ran.out + ran.err
    assert s3_server.num_requests(f"GET /{bucket}/photos/") == 2 * 48, "once on each machine"
    told = [json.loads(line) for line in stored(bucket, "runs/d/epochs.jsonl").splitlines()]
    assert {(row["trial_id"], row["epoch"]) for row in told} == {
        (f"000{n}", epoch) for n in range(4) for epoch in (1, 2, 3, 4)
    }
    weights = {key.split("/")[3] for key in keys(bucket, "runs/d/checkpoints") if key.endswith(".safetensors")}
    assert weights == {"0000", "0001", "0002", "0003"}


def test_the_trials_of_a_machine_that_is_lost_go_on_elsewhere(cluster: Cluster, work: Path) -> None:
    """Last: it takes the second machine away."""
    command = [
        str(BIN / "visionsweep"), "run", str(tiny(work, 10)), "--data", "photos", "--trials", "4", "--name", "c",
        "--address", cluster.address,
    ]  # fmt: skip
    environment = {**cluster.environment(), "VISIONSWEEP_CACHE_DIR": str(work / "cache")}
    running = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    epochs = work / "runs" / "c" / "epochs.jsonl"
    wait_until(lambda: epochs.exists() and len({row["trial_id"] for row in rows(epochs)}) == 2)
    kill(cluster.nodes[1])
    out, _ = running.communicate(timeout=240)
    assert running.returncode == 0, out.decode()[-3000:]
    ended = [row for row in rows(work / "runs" / "c" / "trials.jsonl") if row["event"] == "ended"]
    assert sorted(row["trial_id"] for row in ended) == ["0000", "0001", "0002", "0003"]
    assert {row["status"] for row in ended} == {"complete"}
    numbers = [(row["trial_id"], row["epoch"]) for row in rows(epochs)]
    assert len(set(numbers)) == 4 * 10
    assert len(numbers) - len(set(numbers)) <= 1, "at most one epoch of the one trial that lost its machine"


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def wait_until(holds: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


@pytest.mark.usefixtures("ray_session")
def test_an_address_that_is_none_is_refused_with_the_next_move(
    visionsweep: Callable[..., Outcome], photos: Path, tmp_path: Path
) -> None:
    refused = visionsweep("run", tiny(tmp_path, 1), "--data", photos, "--address", "ray://head:10001")
    assert refused.code == 2
    assert "--address takes auto or HOST:PORT, got 'ray://head:10001'" in refused.err


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, cluster: Cluster) -> None:
    make_photos(tmp_path / "photos", {"red": 12, "blue": 12})
    nobody = f"127.0.0.1:{free_port()}"
    search = tiny(tmp_path, 1)
    refused = cluster.visionsweep(tmp_path, "run", search, "--data", "photos", "--address", nobody)
    assert refused.code == 2, refused.out + refused.err
    assert f"no Ray answers at --address {nobody}" in refused.err
    assert "Traceback" not in refused.err
