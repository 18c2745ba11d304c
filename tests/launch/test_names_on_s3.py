"""A run on S3 to which somebody has added objects: what they are called decides nothing here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from s3_server import client, upload_folder
from support import Outcome

from trainables.checkpoint import TrialFiles
from trainables.worker.trial_mirror import TrialMirror
from visionsweep.core.errors import StorageError
from visionsweep.core.s3 import parse_remote

CLI = Callable[..., Outcome]


def put(bucket: str, key: str) -> None:
    client().put_object(Bucket=bucket, Key=key, Body=b"from outside")


@pytest.fixture
def run(bucket: str, tmp_path: Path) -> str:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "search.json").write_text('{"version": 1}')
    upload_folder(folder, bucket, "runs/evil")
    return f"s3://{bucket}/runs/evil"


@pytest.mark.parametrize("name", ["../../climbed.txt", "/{tmp}/absolute.txt", "a/../../../x", "a\\..\\x", "y" * 300])
def test_fetch_of_a_run_on_s3_writes_below_its_folder_alone(
    visionsweep: CLI, bucket: str, run: str, name: str, tmp_path: Path
) -> None:
    put(bucket, f"runs/evil/{name.format(tmp=str(tmp_path).lstrip('/'))}")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    said = visionsweep("fetch", run, "--to", "home/runs")
    assert said.code == 2
    assert f"{run}: something there is called '" in said.err
    assert said.err.count("\n") == 1
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_trial_that_goes_on_brings_no_file_to_another_place(bucket: str, run: str, tmp_path: Path) -> None:
    for room in ("checkpoints", "predictions"):
        put(bucket, f"runs/evil/{room}/0002/../../../../climbed.npz")
    home = tmp_path / "a" / "scratch"
    files = TrialFiles(home / "checkpoints" / "0002", home / "predictions" / "0002", "val/accuracy", "max", 1)
    with pytest.raises(StorageError, match="which leads out of its folder"):
        TrialMirror(run, "0002", files).bring()
    assert not list(tmp_path.rglob("climbed*"))


def test_whoever_asks_for_an_object_by_a_name_that_climbs_is_refused(bucket: str, run: str, tmp_path: Path) -> None:
    """The check is in the lowest layer, so no caller can forget it."""
    put(bucket, "runs/evil/../x")
    remote = parse_remote(run)
    with pytest.raises(StorageError, match="which leads out of its folder"):
        remote.download("../x", tmp_path / "here")
    with pytest.raises(StorageError, match="which leads out of its folder"):
        remote.download("search.json", tmp_path / "here", to="../search.json")
    with pytest.raises(StorageError, match="which leads out of its folder"):
        remote.listing()
    assert remote.download("search.json", tmp_path / "here", to="a/b.json")
    assert (tmp_path / "here" / "a" / "b.json").is_file()
