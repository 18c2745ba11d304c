"""Searches on a real cluster: two Ray nodes on this machine, joined, looked over, and robbed of one of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from s3_server import S3Server, keys, stored, upload_folder
from support import Outcome, make_photos

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from local_cluster import BIN, Cluster, free_port, kill

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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(Path("/tmp") / f"vs-{os.getpid()}", with_jobs=True)  # short: Ray's sockets lie in it
    started.folder.mkdir()
    try:
        started.head()
        yield started
    finally:
        started.stop()
        shutil.rmtree(started.folder, ignore_errors=True)


@pytest.fixture
def two_nodes(cluster: Cluster) -> Cluster:
    """The same with a second node. Not for jobs that are sent: each node unpacks their code, as it should, but two on one
    machine do so in the same folder, and the second one takes it away under the first."""
    if len(cluster.nodes) < 2:
        cluster.join()
    return cluster


@pytest.fixture
def work(tmp_path: Path) -> Path:
    make_photos(tmp_path / "photos", {"red": 24, "blue": 24})
    return tmp_path


def tiny(folder: Path, epochs: int) -> Path:
    path = folder / "tiny.py"
    path.write_text(TINY.replace("EPOCHS", str(epochs)))
    return path


def test_a_search_is_handed_over_stopped_brought_home_and_goes_on(cluster: Cluster, work: Path) -> None:
    there = ("--cluster", cluster.url)
    (work / "rates.py").write_text("from search_spaces import Float\nLR = Float(1e-3, 0.1, log=True)\n")
    search = tiny(work, 80)
    search.write_text(
        search.read_text()
        .replace("Float(1e-3, 0.1, log=True)", "LR")
        .replace("\nfrom", "from rates import LR\nfrom", 1)
    )
    arguments = ["--data", work / "photos", "--runs-dir", work / "shared", "--name", "d", "--trials", 1, "--no-cache"]
    sent = cluster.visionsweep(work, "submit", search, *arguments, *there)
    assert sent.code == 0, sent.err
    run_dir = work / "shared" / "d"
    found = re.search(r"Job (d-[0-9a-f]{6}) has been sent", sent.out)
    assert found, sent.out
    assert f"Run directory on the cluster: {run_dir}" in sent.out
    try:
        wait_until(lambda: len(rows(run_dir / "epochs.jsonl")) >= 4)
    except AssertionError as error:
        raise AssertionError(cluster.visionsweep(work, "logs", "d", *there).out) from error
    said = cluster.visionsweep(work, "status", found[1], *there)
    assert f"job {found[1]}: running" in said.out, said.out + said.err
    assert "1 of 1 trials: 1 running" in said.out

    stopped = cluster.visionsweep(work, "stop", "d", *there)
    assert f"job {found[1]}: stopped" in stopped.out, stopped.out + stopped.err
    ended = [row for row in rows(run_dir / "trials.jsonl") if row["event"] == "ended"]
    assert [row["status"] for row in ended] == ["interrupted"]

    fetched = cluster.visionsweep(work, "fetch", found[1], "--to", "home", *there)
    assert fetched.code == 0, fetched.err
    brought = {path.relative_to(run_dir): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert {path: (work / "home" / "d" / path).read_bytes() for path in brought} == brought
    (log,) = (cluster.folder / "ray" / "session_latest" / "logs").glob("job-driver-fetch-d-*.log")
    assert log.stat().st_size < 10_000, "the parcel does not stay on the head"

    assert cluster.visionsweep(work, "resume", run_dir, *there).code == 0
    followed = cluster.visionsweep(work, "logs", "d", "--follow", *there)
    assert followed.code == 0, followed.out + followed.err
    assert "Best: trial" in followed.out
    numbers = [(row["trial_id"], row["epoch"]) for row in rows(run_dir / "epochs.jsonl")]
    assert sorted(numbers) == [("0000", epoch) for epoch in range(1, 81)]


def test_through_the_port_of_rays_client_a_search_is_followed_and_stopped(cluster: Cluster, work: Path) -> None:
    there = ("--address", cluster.client_url)
    run_dir = work / "shared" / "r"
    shared = ("--data", work / "photos", "--runs-dir", work / "shared", "--no-cache")
    log = work / "driver.log"
    driver = cluster.started(work, "run", tiny(work, 60), *shared, "--name", "r", "--trials", 1, *there, log=log)
    try:
        wait_until(lambda: len(rows(run_dir / "epochs.jsonl")) >= 4)
    except AssertionError as error:
        raise AssertionError(log.read_text()) from error
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=90) == 130, log.read_text()
    assert "Stopping: running trials end after their current batch." in log.read_text()
    assert f"It goes on with: visionsweep resume {run_dir} --cluster {cluster.client_url}" in log.read_text()
    ended = [row["status"] for row in rows(run_dir / "trials.jsonl") if row["event"] == "ended"]
    assert ended == ["interrupted"]

    stranger = {"RAY_AUTH_TOKEN": "1" * 64, "RAY_CLIENT_CONNECT_TIMEOUT_S": "3"}
    refused = cluster.visionsweep(work, "logs", "r", "--cluster", cluster.client_url, own=stranger)
    assert refused.code == 2, refused.out
    assert "a cluster that asks for a token wants its own" in refused.err


def test_nobody_sends_or_sees_a_job_without_the_token(cluster: Cluster, tmp_path: Path) -> None:
    body = json.dumps({"entrypoint": f"touch {tmp_path}/sent"}).encode()
    for request in (f"{cluster.url}/api/jobs/", urllib.request.Request(f"{cluster.url}/api/jobs/", data=body)):
        with pytest.raises(urllib.error.HTTPError, match="401") as refusal:
            urllib.request.urlopen(request)
        refusal.value.close()
    for token, why in (("", "this machine has none"), ("1" * 64, "the one of this machine is not its own")):
        own = {"RAY_AUTH_TOKEN": token, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
        refused = cluster.visionsweep(tmp_path, "logs", "d", "--cluster", cluster.url, own=own)
        assert refused.code == 2, refused.out
        assert f"the cluster at {cluster.url} asks for its token, and {why}" in refused.err
        assert "Traceback" not in refused.err


def test_check_says_what_every_machine_has_and_what_a_trial_needs(two_nodes: Cluster, work: Path) -> None:
    said = two_nodes.visionsweep(work, "check", tiny(work, 2), "--data", "photos", "--address", two_nodes.address)
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
    """A cluster whose second node, once it has joined, has another `folder` than the first one: empty, and its own."""

    cluster: Cluster
    folder: Path
    hidden: tuple[str, ...]

    def join(self) -> None:
        if len(self.cluster.nodes) < 2:
            self.cluster.join(before=self.hidden)


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
        yield Apart(alone, folder, hidden)
    finally:
        alone.stop()
        shutil.rmtree(alone.folder, ignore_errors=True)


def test_a_machine_that_joins_and_does_not_fit_is_named_and_gets_no_trial(apart: Apart) -> None:
    run_dir, log = apart.folder / "runs" / "a", apart.folder / "log"
    search = ("run", tiny(apart.folder, 20), "--data", "photos", "--trials", 1000, "--name", "a")
    driver = apart.cluster.started(apart.folder, *search, "--address", apart.cluster.address, log=log)

    def ended() -> list[object]:
        return [row["status"] for row in rows(run_dir / "trials.jsonl") if row["event"] == "ended"]

    wait_until(lambda: bool(ended()))
    apart.join()
    wait_until(lambda: "A machine has joined the cluster and is not used." in log.read_text())
    before = len(ended())
    wait_until(lambda: len(ended()) >= before + 3)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) in (0, 130), log.read_text()
    said = log.read_text()
    assert "photos is not there" in said, said
    assert "Put it on a folder that all machines share" in said
    assert set(ended()) <= {"complete", "interrupted"}
    assert not list(run_dir.parent.glob(".visionsweep-probe*"))


def test_a_folder_that_one_machine_does_not_share_is_refused_before_there_is_a_run(apart: Apart) -> None:
    apart.join()
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
    apart.join()
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


def rows(path: Path) -> list[dict[str, object]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_until(holds: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


@pytest.mark.usefixtures("ray_session")
def test_an_address_that_is_none_is_refused_with_the_next_move(
    visionsweep: Callable[..., Outcome], photos: Path, tmp_path: Path
) -> None:
    refused = visionsweep("run", tiny(tmp_path, 1), "--data", photos, "--address", "http://head:8265")
    assert refused.code == 2
    assert "--address takes auto, HOST:PORT or ray://HOST:PORT, got 'http://head:8265'" in refused.err
    assert "hand the search over with `visionsweep submit`" in refused.err


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, cluster: Cluster) -> None:
    make_photos(tmp_path / "photos", {"red": 12, "blue": 12})
    nobody = f"127.0.0.1:{free_port()}"
    search = tiny(tmp_path, 1)
    refused = cluster.visionsweep(tmp_path, "run", search, "--data", "photos", "--address", nobody)
    assert refused.code == 2, refused.out + refused.err
    assert f"no Ray answers at --address {nobody}" in refused.err
    assert "Traceback" not in refused.err


def moved(run_dir: Path) -> bool:
    """Whether a trial has epochs of two processes."""
    found: dict[object, set[object]] = {}
    for row in rows(run_dir / "epochs.jsonl"):
        found.setdefault(row["trial_id"], set()).add(row["pid"])
    return any(len(pids) > 1 for pids in found.values())


def test_a_search_uses_a_machine_that_joins_outlives_its_spot_notice_and_goes_on_on_another_head(work: Path) -> None:
    before = Cluster(Path("/tmp") / f"vs-{os.getpid()}-spot")
    before.folder.mkdir()
    run_dir, log = work / "runs" / "s", work / "log"
    try:
        before.head()
        search = ("run", tiny(work, 60), "--data", "photos", "--trials", 10, "--name", "s", "--address", before.address)
        driver = before.started(work, *search, log=log)
        wait_until(lambda: bool(rows(run_dir / "epochs.jsonl")))
        assert len(rows(run_dir / "trials.jsonl")) == 2, "one was proposed, and has started"
        second = before.join(before=("env", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=3"))
        wait_until(lambda: "has joined the cluster: 1 more trial at once." in log.read_text())
        wait_until(lambda: len({row["pid"] for row in rows(run_dir / "epochs.jsonl")}) == 2)
        second.terminate()  # Ray drains it, and ends it after the seconds that it was given
        wait_until(lambda: moved(run_dir))
        assert second.wait(timeout=60) is not None
        kill(driver)
    except AssertionError as error:
        raise AssertionError(log.read_text()[-3000:]) from error
    finally:
        before.stop()  # the head too
    told = {(row["trial_id"], row["epoch"]) for row in rows(run_dir / "epochs.jsonl")}
    after = Cluster(before.folder)
    try:
        after.head(cpus=2)
        resumed = after.visionsweep(work, "resume", run_dir, "--address", after.address)
    finally:
        after.stop()
        shutil.rmtree(before.folder, ignore_errors=True)
    assert resumed.code == 0, resumed.out + resumed.err
    ended = [(row["trial_id"], row["status"]) for row in rows(run_dir / "trials.jsonl") if row["event"] == "ended"]
    assert sorted(ended) == [(f"000{number}", "complete") for number in range(10)]
    numbers = [(row["trial_id"], row["epoch"]) for row in rows(run_dir / "epochs.jsonl")]
    assert told < set(numbers)
    assert len(set(numbers)) == 10 * 60
    assert len(numbers) - len(set(numbers)) <= 3, "at most one epoch for each trial and loss"


def test_the_trials_of_a_machine_that_is_lost_go_on_elsewhere(two_nodes: Cluster, work: Path) -> None:
    """Last: it takes the second machine away."""
    command = [
        str(BIN / "visionsweep"), "run", str(tiny(work, 10)), "--data", "photos", "--trials", "4", "--name", "c",
        "--address", two_nodes.address,
    ]  # fmt: skip
    environment = {**two_nodes.environment(), "VISIONSWEEP_CACHE_DIR": str(work / "cache")}
    running = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    epochs = work / "runs" / "c" / "epochs.jsonl"
    wait_until(lambda: len({row["trial_id"] for row in rows(epochs)}) == 2)
    kill(two_nodes.nodes[1])
    out, _ = running.communicate(timeout=240)
    assert running.returncode == 0, out.decode()[-3000:]
    ended = [row for row in rows(work / "runs" / "c" / "trials.jsonl") if row["event"] == "ended"]
    assert sorted(row["trial_id"] for row in ended) == ["0000", "0001", "0002", "0003"]
    assert {row["status"] for row in ended} == {"complete"}
    numbers = [(row["trial_id"], row["epoch"]) for row in rows(epochs)]
    assert len(set(numbers)) == 4 * 10
    assert len(numbers) - len(set(numbers)) <= 1, "at most one epoch of the one trial that lost its machine"
