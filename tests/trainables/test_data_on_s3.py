"""Data on a real S3 server equals a folder's, and is downloaded once, completely or not at all."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from s3_server import S3Server, client, upload_folder
from support import make_photos

from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset, reopen_images
from trainables.data.remote import bring
from visionsweep.core.errors import DataError, InputError, StorageError


def load(spec: str, cache_dir: Path | None) -> Dataset:
    return load_dataset(spec, short_side_px=32, cache_dir=cache_dir)[0]


@pytest.fixture
def uploaded(photos: Path, bucket: str) -> str:
    upload_folder(photos, bucket, "sets/photos")
    return f"s3://{bucket}/sets/photos"


def test_the_same_files_have_the_same_fingerprint_split_and_pixels_here_and_on_s3(
    photos: Path, uploaded: str, tmp_path: Path
) -> None:
    here = load(str(photos), tmp_path / "cache")
    remote = load(uploaded, tmp_path / "cache")
    assert remote.fingerprint == here.fingerprint
    assert (remote.split == here.split).all()
    assert remote.names == here.names
    assert remote.describe() == {**here.describe(), "spec": uploaded}
    assert (remote.reader(7) == here.reader(7)).all()


def test_a_table_on_s3_comes_with_the_images_that_it_names(photos: Path, bucket: str, tmp_path: Path) -> None:
    rows = [f"{path.relative_to(photos).as_posix()},{path.parent.name}" for path in sorted(photos.rglob("*.png"))]
    (photos / "labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    upload_folder(photos, bucket, "table")
    here = load(str(photos / "labels.csv"), tmp_path / "cache")
    named = load(f"s3://{bucket}/table/labels.csv", tmp_path / "c")
    found = load(f"s3://{bucket}/table/", tmp_path / "c")
    assert here.fingerprint == named.fingerprint == found.fingerprint
    client().put_object(Bucket=bucket, Key="table/labels.csv", Body=b"image,label\nno.png,red\nred/00.png,blue\n")
    with pytest.raises(DataError, match=rf"^s3://{bucket}/table/labels.csv, line 2: image 'no.png' does not exist"):
        load(f"s3://{bucket}/table", tmp_path / "c")


def test_the_one_folder_of_an_archive_is_entered_on_s3_too(photos: Path, bucket: str, tmp_path: Path) -> None:
    upload_folder(photos, bucket, "archive/unpacked/photos")
    here = load(str(photos), tmp_path / "cache")
    remote = load(f"s3://{bucket}/archive", tmp_path / "cache")
    assert (remote.fingerprint, remote.names) == (here.fingerprint, here.names)
    assert remote.notes == (
        f"'s3://{bucket}/archive' holds one folder, and the data is read from there: 'unpacked/photos'.",
    )
    assert (reopen_images(remote, 32, None)[7] == reopen_images(here, 32, None)[7]).all()


def test_each_file_is_downloaded_once_per_machine(uploaded: str, s3_server: S3Server, tmp_path: Path) -> None:
    requests = f"GET /{uploaded.removeprefix('s3://')}/"
    dataset = load(uploaded, tmp_path / "cache")
    assert s3_server.num_requests(requests) == 48
    load(uploaded, tmp_path / "cache")
    load(uploaded, tmp_path / "cache")
    assert s3_server.num_requests(requests) == 48
    # A trial's process on a machine that has nothing of it yet.
    shutil.rmtree(tmp_path / "cache")
    assert len(reopen_images(dataset, 32, tmp_path / "cache")) == 48
    assert s3_server.num_requests(requests) == 2 * 48


def test_without_a_cache_of_images_the_files_lie_in_the_default_cache_folder(
    uploaded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONSWEEP_CACHE_DIR", str(tmp_path / "default"))
    dataset = load(uploaded, None)
    assert {path.name for path in (tmp_path / "default").iterdir()} == {"s3"}
    assert len(reopen_images(dataset, 32, None)) == 48


def test_what_has_changed_on_s3_is_noticed(uploaded: str, bucket: str, tmp_path: Path) -> None:
    before = load(uploaded, tmp_path / "cache")
    key = "sets/photos/red/00.png"
    stored = client().get_object(Bucket=bucket, Key=key)["Body"].read()
    other = client().get_object(Bucket=bucket, Key="sets/photos/red/01.png")["Body"].read()
    client().put_object(Bucket=bucket, Key=key, Body=other.ljust(len(stored), b"\0")[: max(len(stored), len(other))])
    assert load(uploaded, tmp_path / "cache").fingerprint != before.fingerprint
    reopen_images(before, 32, tmp_path / "cache")  # a search that runs has the old ones still
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(DataError, match=rf"^{uploaded} has changed since the search read it\. Restore it"):
        reopen_images(before, 32, tmp_path / "cache")


def test_a_killed_download_is_no_folder_of_data_and_goes_on(bucket: str, s3_server: S3Server, tmp_path: Path) -> None:
    upload_folder(make_photos(tmp_path / "many", {"red": 80, "blue": 80}, (8, 8)), bucket, "many")
    cache = tmp_path / "cache"
    code = "import sys; from pathlib import Path; from trainables.data.remote import bring; bring(sys.argv[1], Path(sys.argv[2]))"
    downloading = subprocess.Popen([sys.executable, "-c", code, f"s3://{bucket}/many", str(cache)])
    end = time.monotonic() + 60
    while len(list(cache.glob("s3/*.partial/*/*.png"))) < 20:
        assert time.monotonic() < end
        assert downloading.poll() is None
        time.sleep(0.002)
    downloading.send_signal(signal.SIGKILL)
    downloading.wait()
    assert [path for path in cache.glob("s3/many-*") if path.is_dir() and path.suffix != ".partial"] == []
    brought = bring(f"s3://{bucket}/many", cache)
    assert len(list(brought.folder.rglob("*.png"))) == len(list(brought.folder.rglob("*"))) - 2 == 160
    assert not list(cache.glob("s3/*.partial"))
    assert s3_server.num_requests(f"GET /{bucket}/many/") < 160 + 150, "what was there is not downloaded again"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://no-such-bucket-here/photos", "there is no bucket 'no-such-bucket-here' at http://127.0.0.1"),
        ("s3://BUCKET/nothing", "no data in 's3://BUCKET/nothing': the bucket has no such folder. Check its name."),
        ("s3://BUCKET/photos/labels.csv", "the bucket has no such table"),
        ("s3://", "/FOLDER, got 's3://'. For example s3://my-"),
        ("s3://key:secret@BUCKET/photos", "has an @ (s3://...@BUCKET). Leave out what is before it"),
    ],
)
def test_an_address_that_holds_no_data_is_one_sentence(address: str, says: str, bucket: str, tmp_path: Path) -> None:
    client().put_object(Bucket=bucket, Key="photos/a/1.png", Body=b"")
    with pytest.raises(InputError) as raised:
        load(address.replace("BUCKET", bucket), tmp_path / "cache")
    assert says.replace("BUCKET", bucket) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret@" not in str(raised.value)


@pytest.mark.parametrize("key", ["photos/../x.png", "photos//x.png", "photos/a\\..\\x.png", "photos/a/1.png/2.png"])
def test_a_name_that_no_file_below_the_folder_can_have_is_refused(key: str, bucket: str, tmp_path: Path) -> None:
    client().put_object(Bucket=bucket, Key="photos/a/1.png", Body=b"")
    client().put_object(Bucket=bucket, Key=key, Body=b"")
    with pytest.raises(
        InputError, match=r"which (leads out|is absolute|has a backslash)|is a file and a folder at once"
    ):
        load(f"s3://{bucket}/photos", tmp_path / "cache")
    assert not (tmp_path / "x.png").exists()


def test_no_credentials_wrong_ones_and_no_network_are_one_sentence_without_a_key(
    uploaded: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> str:
        with pytest.raises(StorageError) as raised:
            load(uploaded, tmp_path / "cache")
        assert "nobody-may-see" not in repr(raised.value)
        return str(raised.value)

    def check_keys(after: str) -> None:
        url = f"{s3_server.address}/moto-api/reset-auth"
        headers = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, after.encode(), headers)).close()

    check_keys("0")  # moto then asks its own list of keys, which is empty
    try:
        assert "S3 does not accept these credentials (InvalidAccessKeyId). Check AWS_ACCESS_KEY_ID" in refused()
    finally:
        check_keys("inf")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "S3 asks for credentials, and there are none. Set AWS_ACCESS_KEY_ID" in refused()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "S3 asks for credentials, and there are none. Set AWS_ACCESS_KEY_ID" in refused()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "AWS_PROFILE names a profile that is not there" in refused()
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:nobody-may-see@127.0.0.1:9")
    assert "S3 cannot be reached at http://127.0.0.1:9 (EndpointConnectionError). Check the network" in refused()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio")
    assert "AWS_ENDPOINT_URL is not an address. Set it to one, such as http://minio:9000" in refused()
