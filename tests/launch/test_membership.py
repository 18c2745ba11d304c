"""Machines that join a cluster while a search runs on it: some fit, some do not, and some leave again."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster_searches import cluster_of_its_own, tiny
from s3_server import S3Server, keys, stored, upload_folder
from support import lines, make_photos, moved, wait_until

from benchmarks.local_cluster import Cluster, kill

pytestmark = pytest.mark.with_ray(turn=2)


@dataclass
class Apart:
    """A cluster whose second node, once it has joined, has an empty `folder` of its own."""

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
    with cluster_of_its_own("apart") as alone:
        alone.head()
        yield Apart(alone, folder, hidden)


def test_a_machine_that_joins_and_does_not_fit_is_named_and_gets_no_trial(apart: Apart) -> None:
    run_dir = apart.folder / "runs" / "a"
    log = apart.folder / "log"
    search = ("run", tiny(apart.folder, 20), "--data", "photos", "--trials", 1000, "--name", "a")
    driver = apart.cluster.started(apart.folder, *search, "--address", apart.cluster.address, log=log)

    def ended() -> list[object]:
        return [row["status"] for row in lines(run_dir / "trials.jsonl") if row["event"] == "ended"]

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
    search = tiny(apart.folder, 1)
    address = apart.cluster.address
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


def test_a_search_uses_a_machine_that_joins_outlives_its_spot_notice_and_goes_on_on_another_head(work: Path) -> None:
    run_dir = work / "runs" / "s"
    log = work / "log"
    with cluster_of_its_own("spot") as before:
        before.head()
        search = ("run", tiny(work, 60), "--data", "photos", "--trials", 6, "--name", "s", "--address", before.address)
        driver = before.started(work, *search, log=log)
        try:
            wait_until(lambda: bool(lines(run_dir / "epochs.jsonl")))
            assert len(lines(run_dir / "trials.jsonl")) == 2, "one was proposed, and has started"
            second = before.join(before=("env", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=3"))
            wait_until(lambda: "has joined the cluster: 1 more trial at once." in log.read_text())
            wait_until(lambda: len({row["pid"] for row in lines(run_dir / "epochs.jsonl")}) == 2)
            second.terminate()  # Ray drains it, and ends it after the seconds that it was given
            wait_until(lambda: moved(run_dir))
            assert second.wait(timeout=60) is not None
        except AssertionError as error:
            raise AssertionError(log.read_text()[-3000:]) from error
        finally:
            kill(driver)  # and then the head
    told = {(row["trial_id"], row["epoch"]) for row in lines(run_dir / "epochs.jsonl")}
    with cluster_of_its_own("spot") as after:
        after.head(cpus=2)
        resumed = after.visionsweep(work, "resume", run_dir, "--address", after.address)
    assert resumed.code == 0, resumed.out + resumed.err
    ended = [(row["trial_id"], row["status"]) for row in lines(run_dir / "trials.jsonl") if row["event"] == "ended"]
    assert sorted(ended) == [(f"000{number}", "complete") for number in range(6)]
    numbers = [(row["trial_id"], row["epoch"]) for row in lines(run_dir / "epochs.jsonl")]
    assert told < set(numbers)
    assert len(set(numbers)) == 6 * 60
    assert len(numbers) - len(set(numbers)) <= 3, "at most one epoch for each trial and loss"
