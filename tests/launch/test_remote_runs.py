"""A run on a real S3 server, without Ray: its lock, what is sent, and what comes back after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3_server import client, keys, stored
from support import wait_until

import launch.remote.lock as lock_module
import launch.remote.mirror as mirror_module
from launch.remote.location import location_of, new_location
from launch.remote.lock import RemoteLock
from launch.remote.probe import Storage, problems
from launch.remote.session import check_new, mirrored
from launch.search.records import Records
from trainables.checkpoint import TrialFiles
from trainables.worker.trial_mirror import TrialMirror
from visionsweep.core.errors import RunError, StorageError
from visionsweep.core.s3 import Remote, parse_remote

pytestmark = pytest.mark.with_ray

SEARCH = {"name": "a", "started": 1.0, "search": {"metric": "val/accuracy", "mode": "max"}}
ROW = {"metrics": {"val/accuracy": 0.5}, "seconds": 1.0, "images_per_s": 9.0, "lr": 0.1}


@pytest.fixture
def run(bucket: str) -> Remote:
    return parse_remote(f"s3://{bucket}/runs/a")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "BEAT_S", 0.3)
    monkeypatch.setattr(lock_module, "STALE_S", 3.0)
    monkeypatch.setattr(mirror_module, "SEND_EVERY_S", 0.1)


def silent(words: str) -> None: ...


@pytest.fixture
def held(run: Remote, quick: None) -> Iterator[RemoteLock]:
    lock = RemoteLock(run)
    lock.acquire(silent)
    yield lock
    lock.release()


def test_a_second_driver_is_refused_while_the_first_one_lives(held: RemoteLock, run: Remote) -> None:
    said: list[str] = []
    with pytest.raises(RunError, match=rf"{run}: process {os.getpid()} on .* is working on this run\. Wait for it"):
        RemoteLock(run).acquire(said.append)
    assert len(said) == 1
    assert "waiting whether it still is" in said[0]
    held.release()
    assert keys(run.bucket) == set()


def test_a_driver_of_another_machine_that_is_silent_has_lost_the_run(quick: None, run: Remote) -> None:
    run.write("lock.json", json.dumps({"owner": "x", "machine": "elsewhere", "pid": 1, "node": "far"}).encode())
    began = time.monotonic()
    lock = RemoteLock(run)
    lock.acquire(silent)
    assert time.monotonic() - began > 1.5
    assert json.loads(run.read("lock.json").content)["owner"] == lock.owner  # type: ignore[union-attr]
    lock.release()


def test_a_run_whose_driver_was_killed_on_this_machine_is_free_at_once(run: Remote) -> None:
    code = (
        "import os, sys; from launch.remote.lock import RemoteLock; from visionsweep.core.s3 import parse_remote\n"
        "RemoteLock(parse_remote(sys.argv[1])).acquire(print); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, run.uri], check=True)
    assert keys(run.bucket) == {"runs/a/lock.json"}
    began = time.monotonic()
    lock = RemoteLock(run)
    lock.acquire(silent)
    assert time.monotonic() - began < lock_module.STALE_S / 3
    lock.release()


def test_a_driver_that_was_taken_over_records_nothing_more(quick: None, run: Remote, tmp_path: Path) -> None:
    location = location_of(run.uri, tmp_path)
    mirroring = mirrored(location, silent, new=True)
    mirror = mirroring.__enter__()
    assert mirror is not None
    records = Records.create(location.folder, SEARCH, mirror)
    records.proposed("0000", {}, {}, "sampler")
    wait_until(lambda: "runs/a/trials.jsonl" in keys(run.bucket), seconds=30)
    run.write("lock.json", json.dumps({"owner": "x", "pid": 7, "node": "far"}).encode())
    wait_until(lambda: bool(mirror.lock.lost), seconds=30)
    with pytest.raises(RunError, match=r"process 7 on far is working on this run"):
        records.started("0000")
    with suppress(RunError):  # where something was still to be sent
        mirroring.__exit__(None, None, None)
    assert "started" not in content(run, "trials.jsonl")
    assert json.loads(content(run, "lock.json"))["owner"] == "x", "the other one's"


def test_a_run_is_never_written_over_and_its_leftovers_here_are(quick: None, run: Remote, tmp_path: Path) -> None:
    location = location_of(run.uri, tmp_path)
    with mirrored(location, silent, new=True):
        Records.create(location.folder, SEARCH)
    with pytest.raises(RunError, match=rf"^run 'a' exists already in s3://{run.bucket}/runs\. Choose another --name"):
        mirrored(location, silent, new=True).__enter__()
    run.delete(keys_of(run))
    with mirrored(location, silent, new=True):
        Records.create(location.folder, {**SEARCH, "started": 2.0})
    assert json.loads(content(run, "search.json"))["started"] == 2.0


def test_a_bucket_that_cannot_be_written_is_one_sentence_before_there_is_a_run(
    run: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_new(new_location(f"s3://{run.bucket}/runs/", "a", tmp_path))
    assert keys(run.bucket) == set(), "a probe is not left behind"
    with pytest.raises(StorageError, match=r"^s3://no-such-bucket/runs/\S+: there is no bucket 'no-such-bucket'"):
        check_new(new_location("s3://no-such-bucket/runs", "a", tmp_path))
    assert "there is no bucket" in problems(Storage(write=["s3://no-such-bucket/runs"]))[0]
    assert problems(Storage(read=[run.uri], write=[run.uri], folders=[tmp_path / "new"])) == ()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StorageError, match=r"S3 asks for credentials, and there are none\. Set AWS_ACCESS_KEY_ID"):
        check_new(new_location(run.parent.uri, "a", tmp_path))


def test_what_a_killed_driver_had_not_sent_comes_from_the_trials_and_what_nobody_knows_goes(
    quick: None, run: Remote, tmp_path: Path
) -> None:
    def line(event: str, trial_id: str, **more: Any) -> str:
        return json.dumps({"event": event, "trial_id": trial_id, "params": {}, "config": {}, **more}) + "\n"

    def row(trial_id: str, epoch: int) -> str:
        return json.dumps({"trial_id": trial_id, "epoch": epoch, **ROW}) + "\n"

    ended = line("ended", "0000", status="complete", reason="")
    run.write("search.json", json.dumps({"version": 1, **SEARCH}).encode())
    run.write("trials.jsonl", (line("proposed", "0000") + ended + line("proposed", "0001")).encode())
    run.write("epochs.jsonl", (row("0000", 1) + row("0001", 1) + row("0002", 1)).encode())
    run.write("checkpoints/0001/epochs.jsonl", (row("0001", 1) + row("0001", 2) + row("0001", 3) + '{"torn').encode())
    for name in (
        "checkpoints/0001/last.pt",
        "checkpoints/0000/epoch-0001.safetensors",
        "predictions/0000/epoch-0001.npz",
    ):
        run.write(name, b"x")
    run.write("checkpoints/0002/last.pt", b"of a trial whose number another one will get")
    location = location_of(run.uri, tmp_path)
    with mirrored(location, silent):
        records, _ = Records.open(location.folder)
        assert [epoch["epoch"] for epoch in records.trials["0001"].epochs] == [1, 2, 3]
        assert [epoch["epoch"] for epoch in records.trials["0000"].epochs] == [1]
        assert "0002" not in (location.folder / "epochs.jsonl").read_text()
        assert "checkpoints/0002/last.pt" not in keys_of(run)
        client().create_multipart_upload(Bucket=run.bucket, Key="runs/a/checkpoints/0001/last.pt")  # and was killed
    assert "Uploads" not in client().list_multipart_uploads(Bucket=run.bucket)
    assert keys_of(run) == {
        "search.json", "trials.jsonl", "epochs.jsonl", "checkpoints/0001/last.pt", "checkpoints/0001/epochs.jsonl",
        "checkpoints/0000/epoch-0001.safetensors", "predictions/0000/epoch-0001.npz",
    }  # fmt: skip
    assert content(run, "epochs.jsonl") == (location.folder / "epochs.jsonl").read_text()


def test_a_driver_that_was_killed_here_has_its_own_records_and_a_stale_copy_gives_way(
    quick: None, run: Remote, tmp_path: Path
) -> None:
    location = location_of(run.uri, tmp_path)
    with mirrored(location, silent, new=True):
        records = Records.create(location.folder, SEARCH)
        records.proposed("0000", {}, {}, "sampler")
    records.proposed("0001", {}, {}, "sampler")  # after the last sending: only here
    with mirrored(location, silent):
        assert set(Records.open(location.folder)[0].trials) == {"0000", "0001"}
    elsewhere = location_of(run.uri, tmp_path / "other")
    with mirrored(elsewhere, silent):
        Records.open(elsewhere.folder)[0].ended("0001", "failed", "elsewhere")
    (location.folder / "trials.jsonl").write_text((location.folder / "trials.jsonl").read_text() + "{}\n")
    with mirrored(location, silent):
        assert Records.open(location.folder)[0].trials["0001"].reason == "elsewhere"


def test_a_trial_that_goes_on_elsewhere_keeps_its_best_epochs_and_s3_holds_no_other(
    run: Remote, tmp_path: Path
) -> None:
    def files(machine: str) -> TrialFiles:
        root = tmp_path / machine
        return TrialFiles(root / "checkpoints/0003", root / "predictions/0003", "val/accuracy", "max", keep_best=2)

    def save(here: TrialFiles, epoch: int, accuracy: float, drop: int | None = None) -> None:
        """Write an epoch's files like `TrialFiles.save`."""
        weights, predictions = here.files_of(epoch)
        for path in (weights, predictions, here.last):
            path.parent.mkdir(parents=True, exist_ok=True)
        weights.write_text(f"weights {epoch}")
        np.savez(predictions, metrics=np.array(json.dumps({"val/accuracy": accuracy})))
        here.last.write_text(f"state {epoch}")
        for path in () if drop is None else here.files_of(drop):
            path.unlink(missing_ok=True)

    # Three epochs on one machine, of which two are kept.
    here = files("one")
    mirror = TrialMirror(run.uri, "0003", here)
    mirror.bring()
    for epoch, accuracy in ((1, 0.1), (2, 0.9), (3, 0.5)):
        save(here, epoch, accuracy, drop=1 if epoch == 3 else None)
        mirror.send({"epoch": epoch, **ROW, "metrics": {"val/accuracy": accuracy, "val/auroc": float("nan")}})
    names = {f"checkpoints/0003/{name}" for name in ("last.pt", "epochs.jsonl")}
    kept = {2, 3}
    assert keys_of(run) == names | of_epochs(kept)
    mirror.leave()
    assert not list((tmp_path / "one").rglob("*.*"))

    # The fourth epoch on another machine.
    there = files("two")
    other = TrialMirror(run.uri, "0003", there)
    other.bring()
    assert there.last.read_text() == "state 3"
    assert there.best() == (2, {"val/accuracy": 0.9})
    save(there, 4, 0.7, drop=3)
    other.send({"epoch": 4, **ROW})
    assert keys_of(run) == names | of_epochs({2, 4}), "epoch 3 goes, whose weights were never here"
    rows = [json.loads(line) for line in content(run, "checkpoints/0003/epochs.jsonl").splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["metrics"] == {"val/accuracy": 0.1}
    assert {"time", "trial_id", "node", "pid"} <= rows[0].keys()


def test_the_predictions_of_folds_are_on_s3_until_they_are_one_file(run: Remote, tmp_path: Path) -> None:
    def files(machine: str) -> TrialFiles:
        root = tmp_path / machine
        return TrialFiles(root / "checkpoints/0003", root / "predictions/0003", "val/accuracy", "max", keep_best=1)

    here = files("one")
    mirror = TrialMirror(run.uri, "0003", here)
    mirror.bring()
    here.predictions.mkdir(parents=True)
    (here.predictions / "fold-2.npz").write_text("of fold 2")
    mirror.send()  # within a fold there is no row
    assert keys_of(run) == {"predictions/0003/fold-2.npz"}
    there = files("two")
    other = TrialMirror(run.uri, "0003", there)
    other.bring()
    part = there.predictions / "fold-2.npz"
    assert part.read_text() == "of fold 2"
    part.rename(there.predictions / "out-of-fold.npz")
    other.send({"epoch": 3, **ROW})
    assert keys_of(run) == {"predictions/0003/out-of-fold.npz", "checkpoints/0003/epochs.jsonl"}


def test_a_search_sends_its_records_while_it_runs_and_deletes_after_them(
    quick: None, run: Remote, tmp_path: Path
) -> None:
    location = location_of(run.uri, tmp_path)
    with mirrored(location, silent, new=True) as mirror:
        records = Records.create(location.folder, SEARCH, mirror)
        for trial_id in ("0000", "0001", "0002"):
            records.proposed(trial_id, {}, {}, "sampler")
            records.epoch({"trial_id": trial_id, "epoch": 1, **ROW})
            for name in ("last.pt", "process.json", "epochs.jsonl", "epoch-0001.safetensors"):
                run.write(f"checkpoints/{trial_id}/{name}", b"x")
            run.write(f"predictions/{trial_id}/epoch-0001.npz", b"x")
        run.write("checkpoints/0003/last.pt", b"of a copy that is to be proposed")
        for trial_id in ("0000", "0001"):
            records.ended(trial_id, "complete", "")
        records.keep_only(["0001"])
        wait_until(lambda: "checkpoints/0000/last.pt" not in keys_of(run), seconds=30)
        assert '"status": "complete"' in content(run, "trials.jsonl")
        wait_until(lambda: "checkpoints/0001/epochs.jsonl" not in keys_of(run), seconds=30)
        left = {name for name in keys_of(run) if "/" in name}
        assert left == of_epochs({1}, "0001") | of_epochs({1}, "0002") | {"checkpoints/0003/last.pt"} | {
            f"checkpoints/0002/{name}" for name in ("last.pt", "process.json", "epochs.jsonl")
        }


def of_epochs(epochs: set[int], trial_id: str = "0003") -> set[str]:
    weights = {f"checkpoints/{trial_id}/epoch-{epoch:04d}.safetensors" for epoch in epochs}
    return weights | {f"predictions/{trial_id}/epoch-{epoch:04d}.npz" for epoch in epochs}


def keys_of(run: Remote) -> set[str]:
    found = {key.removeprefix(f"{run.prefix}/") for key in keys(run.bucket, run.prefix)}
    return found - {"lock.json"}


def content(run: Remote, name: str) -> str:
    return stored(run.bucket, f"{run.prefix}/{name}")
