"""Searches on a real cluster of two Ray nodes on this machine, which join, are checked, and are killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_searches import SPACE, cluster_of_its_own, tiny
from support import Outcome, lines, make_photos, wait_until

from benchmarks.local_cluster import BIN, Cluster, free_port, kill

pytestmark = pytest.mark.with_ray(turn=3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of_its_own("shared", with_jobs=True) as started:
        started.head()
        yield started


@pytest.fixture
def two_nodes(cluster: Cluster) -> Cluster:
    """The cluster with a second node.

    It is not for submitted jobs. Each node unpacks their code, but two on one machine do so in the same folder, and the
    second deletes it under the first.
    """
    if len(cluster.nodes) < 2:
        cluster.join()
    return cluster


def test_a_search_is_handed_over_stopped_brought_home_and_goes_on(cluster: Cluster, work: Path) -> None:
    there = ("--cluster", cluster.url)
    (work / "rates.py").write_text("from search_spaces import Float\nLR = Float(1e-3, 0.1, log=True)\n")
    search = tiny(work, 240)
    search.write_text("from rates import LR\n" + search.read_text().replace(repr(SPACE["optimizer"]["lr"]), "LR"))
    arguments = ["--data", work / "photos", "--runs-dir", work / "shared", "--name", "d", "--trials", 1, "--no-cache"]
    sent = cluster.visionsweep(work, "submit", search, *arguments, *there)
    assert sent.code == 0, sent.err
    run_dir = work / "shared" / "d"
    found = re.search(r"Job (d-[0-9a-f]{6}) has been sent", sent.out)
    assert found, sent.out
    assert f"Run directory on the cluster: {run_dir}" in sent.out
    try:
        wait_until(lambda: len(lines(run_dir / "epochs.jsonl")) >= 4)
    except AssertionError as error:
        raise AssertionError(cluster.visionsweep(work, "logs", "d", *there).out) from error
    said = cluster.visionsweep(work, "status", found[1], *there)
    assert f"job {found[1]}: running" in said.out, said.out + said.err
    assert "0 of 1 trials have ended. 1 running." in said.out

    stopped = cluster.visionsweep(work, "stop", "d", *there)
    assert f"job {found[1]}: stopped" in stopped.out, stopped.out + stopped.err
    ended = [row for row in lines(run_dir / "trials.jsonl") if row["event"] == "ended"]
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
    numbers = [(row["trial_id"], row["epoch"]) for row in lines(run_dir / "epochs.jsonl")]
    assert sorted(numbers) == [("0000", epoch) for epoch in range(1, 241)]


def test_through_the_port_of_rays_client_a_search_is_followed_and_stopped(cluster: Cluster, work: Path) -> None:
    there = ("--address", cluster.client_url)
    run_dir = work / "shared" / "r"
    shared = ("--data", work / "photos", "--runs-dir", work / "shared", "--no-cache")
    log = work / "driver.log"
    # In the background of a script, where Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        driver = cluster.started(
            work, "run", tiny(work, 10_000), *shared, "--name", "r", "--trials", 1, *there, log=log
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        wait_until(lambda: len(lines(run_dir / "epochs.jsonl")) >= 4)
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(timeout=90) == 143
    except (AssertionError, subprocess.TimeoutExpired) as error:
        driver.kill()
        cluster.visionsweep(work, "stop", "r", "--cluster", cluster.url)  # it would starve the tests after this one
        raise AssertionError(log.read_text()) from error
    assert "Stopping: running trials end after their current batch." in log.read_text()
    assert f"Resume it with: visionsweep resume {run_dir} --cluster {cluster.client_url}" in log.read_text()
    ended = [row["status"] for row in lines(run_dir / "trials.jsonl") if row["event"] == "ended"]
    assert ended == ["interrupted"]

    stranger = {"RAY_AUTH_TOKEN": "1" * 64, "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "3"}
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
    assert said.out.startswith("photos: 48 images, 2 classes (blue 24, red 24); 38 to train on, ")
    assert said.out.count("1 CPUs, ") == 2
    assert "(this machine)" in said.out
    assert "seen alike by all 2 machines" in said.out
    assert "; 2 at once" in said.out
    assert "GB of memory" in said.out
    assert "NO " not in said.out
    assert not list((work / "runs").glob("*")), "nothing is left behind"


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


def test_the_trials_of_a_machine_that_is_lost_go_on_elsewhere(two_nodes: Cluster, work: Path) -> None:
    """Last: it takes the second machine away."""
    command = [
        str(BIN / "visionsweep"), "run", str(tiny(work, 10)), "--data", "photos", "--trials", "4", "--name", "c",
        "--address", two_nodes.address,
    ]  # fmt: skip
    environment = {**two_nodes.environment(), "VISIONSWEEP_CACHE_DIR": str(work / "cache")}
    running = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    epochs = work / "runs" / "c" / "epochs.jsonl"
    wait_until(lambda: len({row["trial_id"] for row in lines(epochs)}) == 2)
    kill(two_nodes.nodes[1])
    out, _ = running.communicate(timeout=240)
    assert running.returncode == 0, out.decode()[-3000:]
    ended = [row for row in lines(work / "runs" / "c" / "trials.jsonl") if row["event"] == "ended"]
    assert sorted(row["trial_id"] for row in ended) == ["0000", "0001", "0002", "0003"]
    assert {row["status"] for row in ended} == {"complete"}
    numbers = [(row["trial_id"], row["epoch"]) for row in lines(epochs)]
    assert len(set(numbers)) == 4 * 10
    assert len(numbers) - len(set(numbers)) <= 1, "at most one epoch of the one trial that lost its machine"
