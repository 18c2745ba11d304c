"""Searches whose data and runs are on S3, through the command line, with real Ray and a real S3 server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from s3_server import client, keys, stored, upload_folder
from support import TINY_SPACE, Outcome, lines, tiny_search, wait_until

from launch.cli.loading import load_search
from launch.search.interrupt import write_on_machines
from launch.search.warm_start import warm_started
from search_spaces import Float, Pick

pytestmark = pytest.mark.with_ray(turn=12)

CLI = Callable[..., Outcome]

SPACE = {
    **TINY_SPACE,
    "model": {"backbone": Pick("test_resnet", "test_efficientnet")},
    "optimizer": {"name": "sgd", "lr": Float(1e-2, 0.1, log=True)},
}
RECORDS = {"search.json", "trials.jsonl", "epochs.jsonl", "best.yaml", "study.journal"}


@pytest.fixture
def data(photos: Path, bucket: str) -> str:
    upload_folder(photos, bucket, "photos")
    return f"s3://{bucket}/photos"


@pytest.mark.usefixtures("ray_session")
def test_a_search_with_data_and_run_on_s3_is_ranked_exported_and_gone_on_with_anywhere(
    visionsweep: CLI, bucket: str, data: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.py").write_text(tiny_search(space=SPACE, epochs=2))
    runs = f"s3://{bucket}/runs"
    asked = ("run", "tiny.py", "--data", data, "--runs-dir", runs, "--name", "a", "--trials", 3, "--keep-trials", 2)
    asked += ("--max-concurrent", 1)
    ran = visionsweep(*asked)
    assert ran.code == 0, ran.err
    assert f"Configuration:  {runs}/a/best.yaml" in ran.out
    assert f"visionsweep export {runs}/a --out exports/a" in ran.out
    rows = json.loads(visionsweep("rank", f"{runs}/a", "--json").out)
    assert [row["status"] for row in rows] == ["complete"] * 3
    best_two = {row["trial_id"] for row in rows[:2]}
    held = keys(bucket, "runs/")
    assert {key.removeprefix("runs/a/") for key in held if key.count("/") == 2} == RECORDS
    judged = {key for key in held if "/judged/" in key}  # of every trial: what the best was chosen among
    assert {key.split("/")[3] for key in held if key.count("/") == 4 and key not in judged} == best_two
    assert {key.removeprefix("runs/a/judged/") for key in judged} == {f"{row['trial_id']}/best.npz" for row in rows}
    assert {key.rpartition(".")[2] for key in held if key.count("/") == 4} == {"safetensors", "npz"}
    assert sum(key.count("/") == 4 for key in held - judged) == 2 * 2, "the best epoch of each, and its predictions"
    for key in held:
        assert b"nobody-may-see" not in client().get_object(Bucket=bucket, Key=key)["Body"].read()
    assert not list(tmp_path.glob("cache/runs/*/a/scratch/*/*/*")), "a trial leaves nothing behind here"

    # As another machine: nothing of it is here.
    monkeypatch.setenv("VISIONSWEEP_CACHE_DIR", str(tmp_path / "other"))
    refused = visionsweep(*asked)
    assert refused.code == 2
    assert f"run 'a' exists already in {runs}. Choose another --name, or resume it: `visionsweep resume {runs}/a`" in (
        refused.err
    )
    more = visionsweep("resume", f"{runs}/a", "--trials", "+1")
    assert more.code == 0, more.err
    again = json.loads(visionsweep("rank", f"{runs}/a", "--json").out)
    assert [row["status"] for row in again] == ["complete"] * 4
    former = {row["trial_id"]: (row["metrics"], row["epochs"]) for row in rows}
    assert former.items() <= {row["trial_id"]: (row["metrics"], row["epochs"]) for row in again}.items()
    kept = {key.split("/")[3] for key in keys(bucket, "runs/") if key.count("/") == 4 and "/judged/" not in key}
    assert kept == {row["trial_id"] for row in again[:2]}

    # It is a warm start of another search.
    warm = warm_started(load_search(str(tmp_path / "tiny.py")).for_task("binary"), [f"{runs}/a"])
    assert [config["optimizer"]["lr"] for config in warm.warm_start] == [
        row["config"]["optimizer"]["lr"] for row in again[:3]
    ]

    # Status, and a fetched copy.
    seen = visionsweep("status", f"{runs}/a")
    assert seen.code == 0, seen.err
    assert f"{runs}/a: has ended. `visionsweep rank {runs}/a` ranks its trials." in " ".join(seen.out.split())
    assert visionsweep("fetch", f"{runs}/a", "--to", "home").code == 0
    assert json.loads(visionsweep("rank", "home/a", "--json").out) == again
    assert visionsweep("export", "home/a", "--out", "from-home").code == 0
    assert "exists already" in visionsweep("fetch", f"{runs}/a", "--to", "home").err

    # Exports, and predictions for images on S3.
    assert visionsweep("export", f"{runs}/a", "--out", "export").code == 0
    assert json.loads((tmp_path / "export" / "metrics.json").read_text())["run"] == "a"
    rest = visionsweep("export", f"{runs}/a", "--out", "rest", "--trial", again[-1]["trial_id"])
    assert rest.code == 2
    assert f"{runs}/a: has no weights of trial {again[-1]['trial_id']}. Trials with weights: " in rest.err
    predicted = json.loads(visionsweep("predict", "export", f"{data}/red", photos / "red", "--json").out)
    assert predicted[3]["path"] == f"{data}/red/03.png"
    assert predicted[3]["probabilities"] == predicted[24 + 3]["probabilities"]
    assert not list(tmp_path.glob("*/runs/view-*"))

    # Another user, who does not fetch the data that a run names.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    asked_for = visionsweep("resume", f"{runs}/a", "--trials", "+0")
    assert asked_for.code == 2
    assert f"add --data {data}." in asked_for.err
    adopted = visionsweep("resume", f"{runs}/a", "--trials", "+0", "--data", data)
    assert adopted.code == 0, adopted.err
    assert visionsweep("resume", f"{runs}/a", "--trials", "+0").code == 0, "it is theirs now"


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_session")
def test_a_search_that_is_killed_goes_on_on_another_machine_with_nothing_finished_lost(
    visionsweep: CLI, bucket: str, data: str, tmp_path: Path
) -> None:
    (tmp_path / "tiny.py").write_text(tiny_search(space=SPACE, epochs=12))
    run = f"s3://{bucket}/runs/b"
    command = [
        str(Path(sys.executable).parent / "visionsweep"), "run", "tiny.py", "--data", data, "--trials", "4",
        "--name", "b", "--runs-dir", f"s3://{bucket}/runs", "--max-concurrent", "2",
    ]  # fmt: skip
    log = (tmp_path / "log").open("wb")
    driver = subprocess.Popen(
        command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
        env={**os.environ, "VISIONSWEEP_CACHE_DIR": str(tmp_path / "first")},
    )  # fmt: skip
    here = tmp_path / "first" / "runs"
    wait_until(lambda: bool(ended(only(here, "trials.jsonl"))), driver, seconds=150)
    wait_until(lambda: len(lines(only(here, "epochs.jsonl"))) >= 12 + 6, driver, seconds=150)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    log.close()
    time.sleep(1)  # Ray's processes end with it
    # A trial that was proposed in the last seconds is not known there: another one gets its number.
    known = {json.loads(line)["trial_id"] for line in stored(bucket, "runs/b/trials.jsonl").splitlines()}
    rows = [row for row in lines(only(here, "epochs.jsonl")) if row["trial_id"] in known]
    recorded = {(row["trial_id"], row["epoch"]): row["metrics"] for row in rows}
    assert len(known) >= 2

    resumed = visionsweep("resume", run)
    assert resumed.code == 0, resumed.err
    left = {key.removeprefix("runs/b/") for key in keys(bucket, "runs/b/")}
    assert {name for name in left if "/" not in name} == RECORDS
    assert not [name for name in left if name.endswith((".pt", ".json", "/epochs.jsonl")) and "/" in name]
    trials = json.loads(visionsweep("rank", run, "--json").out)
    assert {row["trial_id"]: row["status"] for row in trials} == {f"{number:04d}": "complete" for number in range(4)}
    rows = [json.loads(line) for line in stored(bucket, "runs/b/epochs.jsonl").splitlines()]
    now = {(row["trial_id"], row["epoch"]): row["metrics"] for row in rows}
    assert set(now) == {(f"{number:04d}", epoch) for number in range(4) for epoch in range(1, 13)}
    lost = [one for one, metrics in recorded.items() if now[one] != metrics]
    assert lost == [], "an epoch that was trained is not another one"
    assert len(rows) - len(now) <= 2, "at most one epoch of each running trial is trained twice"


@pytest.mark.usefixtures("ray_session")
def test_machines_that_share_no_folder_are_told_to_stop_by_a_task_on_each(tmp_path: Path) -> None:
    write_on_machines(tmp_path / "stop", "")
    end = time.monotonic() + 60
    while not (tmp_path / "stop").exists():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_run_that_cannot_be_had_is_one_sentence_before_ray_starts(visionsweep: CLI, bucket: str) -> None:
    client().put_object(Bucket=bucket, Key="runs/mine/search.json", Body=b"{}")
    for command in (("rank",), ("resume",), ("export", "--out", "x")):
        for run, says in {
            f"s3://{bucket}/runs/mime": f"s3://{bucket}/runs/mime: is not a run (it has no search.json). Did you mean 'mine'",
            "s3://no-such-bucket/runs/mine": "there is no bucket 'no-such-bucket'",
            f"s3://{bucket}": "a run on S3 is s3://BUCKET/FOLDER/NAME, got",
        }.items():
            refused = visionsweep(command[0], run, *command[1:])
            assert refused.code == 2
            assert says in refused.err
            assert refused.err.count("\n") == 1
    assert keys(bucket) == {"runs/mine/search.json"}


def only(folder: Path, name: str) -> Path:
    return next(folder.glob(f"*/b/{name}"), folder / "not-yet")


def ended(path: Path) -> list[dict[str, Any]]:
    return [row for row in lines(path) if row["event"] == "ended"]
