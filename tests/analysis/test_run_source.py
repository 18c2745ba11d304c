"""Whose run it is decides whether its data is followed to where its records say."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_runs import write_run
from s3_server import S3Server, upload_folder
from support import Outcome

from analysis.figures.overlays import open_data
from analysis.models.run_source import cache_of, is_own, sealed, source_of, state_dir, with_cache_dir
from trainables.data.formats import load_dataset
from visionsweep.core.errors import DataError, RunError
from visionsweep.run_dir.load import load_run

CLI = Callable[..., Outcome]


def searched(data: str, cache_dir: str | None = "/their/cache") -> dict[str, Any]:
    return {"options": {"data": data, "cache_dir": cache_dir}}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "visionsweep"


@pytest.mark.parametrize("data", ["s3://attacker/x", "S3://attacker/x", "torchvision:CIFAR10", "Torchvision:CIFAR10"])
def test_data_that_would_be_fetched_is_asked_for_unless_the_run_is_ones_own(data: str, state: Path) -> None:
    theirs = searched(data)
    with pytest.raises(RunError, match=rf"was not started by you on this machine.*add --data {data}\.$"):
        source_of(theirs)
    assert source_of(theirs, "s3://mine/x")[0] == "s3://mine/x"
    assert source_of(sealed(theirs)) == (data, Path("/their/cache"))


def test_a_folder_is_read_in_any_run_and_decoded_images_go_to_ones_own_cache(state: Path, tmp_path: Path) -> None:
    theirs = searched("/data/photos")
    spec, cache = source_of(theirs)
    assert (spec, cache) != ("/data/photos", Path("/their/cache"))
    assert spec == "/data/photos"
    assert cache_of(sealed(theirs)) == Path("/their/cache")
    assert cache_of(searched("/data/photos", None)) is None


@pytest.mark.parametrize("seal", [None, "", "00", "0" * 64, 5, ["x"], "é"])
def test_a_seal_that_somebody_made_up_is_none(seal: Any, state: Path) -> None:
    assert not is_own({**searched("s3://a/b"), "seal": seal}), "where there is no key"
    sealed(searched("x"))
    assert not is_own({**searched("s3://a/b"), "seal": seal})


def test_a_seal_is_of_one_place_of_data_and_one_cache(state: Path) -> None:
    own = sealed(searched("s3://mine/x"))
    assert is_own(own)
    assert not is_own({**own, "options": {**own["options"], "data": "s3://attacker/x"}})
    assert not is_own({**own, "options": {**own["options"], "cache_dir": "/home/me/.ssh"}})
    assert is_own(with_cache_dir(own, "/elsewhere"))
    assert not is_own(with_cache_dir(searched("s3://attacker/x"), "/elsewhere"))


def test_the_key_is_kept_closed_and_another_user_has_another(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = sealed(searched("s3://mine/x"))
    assert state_dir() == state
    assert stat.S_IMODE((state / "key").stat().st_mode) == 0o600
    assert [path.name for path in state.iterdir()] == ["key"]
    assert sealed(searched("s3://mine/x")) == own
    assert (state / "key").read_text() not in json.dumps(own)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert not is_own(own)


def test_without_a_place_for_a_key_every_run_is_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert sealed(searched("s3://mine/x"))["seal"] is None
    assert not is_own(sealed(searched("s3://mine/x")))


def retold(run_dir: Path, **options: object) -> None:
    path = run_dir / "search.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "options": {**told.get("options", {}), **options}}))


@pytest.mark.parametrize("command", ["report", "ensemble", "refit", "export", "resume"])
def test_a_run_of_somebody_else_makes_no_request(
    visionsweep: CLI, command: str, s3_server: S3Server, bucket: str, photos: Path, tmp_path: Path
) -> None:
    upload_folder(photos, bucket, "lure")
    write_run(tmp_path / "run", num_trials=3)
    retold(tmp_path / "run", data=f"s3://{bucket}/lure", cache_dir=str(tmp_path / "their-cache"), seed=0)
    before = s3_server.num_requests(bucket)
    out = {"export": ["--out", "e", "--ensemble"]}.get(command, [])
    said = visionsweep(command, "run", *out)
    assert s3_server.num_requests(bucket) == before
    assert not (tmp_path / "their-cache").exists()
    if command != "report":
        assert said.code == 2
        assert f"--data s3://{bucket}/lure" in said.err, said.err


def test_a_report_shows_pictures_of_what_was_brought_before_without_a_request(
    s3_server: S3Server, bucket: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONSWEEP_CACHE_DIR", str(tmp_path / "cache"))
    upload_folder(photos, bucket, "photos")
    spec = f"s3://{bucket}/photos"
    write_run(tmp_path / "run", num_trials=3)
    dataset, _ = load_dataset(spec, short_side_px=32, cache_dir=tmp_path / "cache")
    told = json.loads((tmp_path / "run" / "search.json").read_text())
    (tmp_path / "run" / "search.json").write_text(json.dumps({**told, "data": dataset.describe()}))
    retold(tmp_path / "run", data=spec, cache_dir=None)
    before = s3_server.num_requests(bucket)
    assert open_data(load_run(tmp_path / "run")).image(0).ndim == 3
    assert s3_server.num_requests(bucket) == before
    retold(tmp_path / "run", data=f"s3://{bucket}/other")
    with pytest.raises(DataError, match="is not on this machine"):
        open_data(load_run(tmp_path / "run"))
    assert s3_server.num_requests(bucket) == before


def test_a_torchvision_set_that_is_not_there_is_not_fetched_by_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONSWEEP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", lambda *_: pytest.fail("fetched"))
    write_run(tmp_path / "run", num_trials=3)
    retold(tmp_path / "run", data="torchvision:FashionMNIST", cache_dir=str(tmp_path / "cache"))
    told = json.loads((tmp_path / "run" / "search.json").read_text())
    data = {**told["data"], "fingerprint": "abc", "val": []}
    (tmp_path / "run" / "search.json").write_text(json.dumps({**told, "data": data}))
    (tmp_path / "cache" / "abc-32").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be had"):
        open_data(load_run(tmp_path / "run"))
