"""One file of annotations on S3 is read with the images that lie beside it, or beside its folder, as on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import test_annotations_coco as of_coco
import test_annotations_cvat as of_cvat
import test_annotations_damaged as of_damaged
import test_annotations_via as of_via
import test_annotations_via_csv as of_via_csv
from drawn_masks import load, refusal
from s3_server import S3Server, client, upload_folder

from trainables.data.formats import reopen_images
from trainables.data.remote import bring, brought
from visionsweep.core.errors import DataError, InputError


def coco(root: Path) -> Path:
    return of_coco.write(root, of_coco.coco([of_coco.SQUARE]))


def via(root: Path) -> Path:
    return of_via.write(root, of_via.region(kind="cat"))


def via_csv(root: Path) -> Path:
    return of_via_csv.exported(root, of_via.region(kind="cat"))


def via_csv_in_a_folder(root: Path) -> Path:
    path = of_via_csv.exported(root, of_via.region(kind="cat"))
    (root / "annotations").mkdir()
    return path.rename(root / "annotations" / path.name)


def cvat(root: Path) -> Path:
    return of_cvat.write(root, of_cvat.POLYGON)


def metadata(root: Path) -> Path:
    return of_damaged.of_metadata.write(root, of_damaged.of_metadata.labelled())


@pytest.mark.parametrize(
    "write", [coco, via, via_csv, via_csv_in_a_folder, cvat, metadata, of_damaged.label_studio]
)  # fmt: skip
def test_one_file_on_s3_is_the_data_that_it_is_here(tmp_path: Path, bucket: str, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / "set")
    upload_folder(tmp_path / "set", bucket, "sets/one")
    address = f"s3://{bucket}/sets/one"
    name = path.relative_to(tmp_path / "set").as_posix()
    here, here_images = load(path)
    cache = tmp_path / "cache"
    for spec in (f"{address}/{name}", address):
        there, images = load(spec, cache_dir=cache)
        assert (there.fingerprint, there.names, there.classes) == (here.fingerprint, here.names, here.classes)
        assert (images[0] == here_images[0]).all()
    named, _ = load(f"{address}/{name}", cache_dir=cache)
    # A trial's process on a machine that has nothing of it yet.
    shutil.rmtree(cache)
    assert (reopen_images(named, 8, cache)[0] == here_images[0]).all()
    assert brought(f"{address}/{name}", cache).path.read_bytes() == path.read_bytes()


def test_a_table_in_a_folder_that_is_called_data_brings_only_that_folder(
    photos: Path, bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    rows = [f"{path.relative_to(photos).as_posix()},{path.parent.name}" for path in sorted(photos.rglob("*.png"))]
    (photos / "labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    upload_folder(photos, bucket, "sets/data")
    client().put_object(Bucket=bucket, Key="sets/other/large.png", Body=b"x")
    there, _ = load(f"s3://{bucket}/sets/data/labels.csv", cache_dir=tmp_path / "cache")
    assert there.fingerprint == load(photos)[0].fingerprint
    assert s3_server.num_requests(f"GET /{bucket}/sets/other/") == 0


def test_a_bucket_is_read_whole_for_annotations_but_not_for_images_in_it(
    bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    path = coco(tmp_path / "set")
    upload_folder(tmp_path / "set" / "annotations", bucket, "annotations")
    upload_folder(tmp_path / "set" / "images", bucket, "images")
    there, _ = load(f"s3://{bucket}/annotations/{path.name}", cache_dir=tmp_path / "cache")
    assert there.fingerprint == load(path)[0].fingerprint
    client().put_object(Bucket=bucket, Key="images/annotations.json", Body=path.read_bytes())
    client().put_object(Bucket=bucket, Key="other/large.png", Body=b"x")
    inside, _ = load(f"s3://{bucket}/images/annotations.json", cache_dir=tmp_path / "cache")
    assert inside.names == tuple(name.removeprefix("images/") for name in there.names)
    assert s3_server.num_requests(f"GET /{bucket}/other/") == 0


def test_a_folder_with_the_ending_of_a_file_is_a_folder(photos: Path, bucket: str, tmp_path: Path) -> None:
    upload_folder(photos, bucket, "sets/photos.json")
    there, _ = load(f"s3://{bucket}/sets/photos.json", cache_dir=tmp_path / "cache")
    assert there.fingerprint == load(photos)[0].fingerprint
    assert brought(f"s3://{bucket}/sets/photos.json", tmp_path / "cache").path.is_dir()


def test_what_is_wrong_with_a_file_on_s3_is_said_with_its_address(bucket: str, tmp_path: Path) -> None:
    path = of_via_csv.exported(tmp_path / "set", of_via.region(kind="cat"), of_via.region(kind="dog"))
    of_via_csv.damage(path, 3, "region_attributes", "cat")
    upload_folder(tmp_path / "set", bucket, "set")
    address = f"s3://{bucket}/set"
    cache = {"cache_dir": tmp_path / "cache"}
    wrong = f"{address}/via_export.csv, line 3: its region_attributes 'cat' are no JSON"
    assert refusal(f"{address}/via_export.csv", **cache).startswith(wrong)
    for name in ("no.json", "annotations/no.json", "no.xml", "no.jsonl"):
        with pytest.raises(DataError) as raised:
            bring(f"{address}/{name}", tmp_path / "cache")
        assert str(raised.value) == f"no data in '{address}/{name}': the bucket has no such file. Check its name."
    with pytest.raises(DataError, match=r"no such table\. Check its name"):
        bring(f"{address}/annotations/no.csv", tmp_path / "cache")
    with pytest.raises(DataError, match=r"^s3://.*/set/annotations/no\.csv is not on this machine\.$"):
        brought(f"{address}/annotations/no.csv", tmp_path / "cache")
    client().put_object(Bucket=bucket, Key="set/other.json", Body=b'{"a": 1}')
    assert f"'{address}/other.json' is not a file of annotations that is known" in refusal(
        f"{address}/other.json", **cache
    )
    client().delete_object(Bucket=bucket, Key="set/3.png")
    of_via_csv.damage(path, 3, "region_attributes", '{"kind": "dog"}')
    client().put_object(Bucket=bucket, Key="set/via_export.csv", Body=path.read_bytes())
    missing = f"{address}/via_export.csv, image '3.png': image '3.png' does not exist in the data folder"
    assert refusal(f"{address}/via_export.csv", **cache).startswith(missing)
    with pytest.raises(InputError, match=r"there is no bucket 'no-such-bucket-here' at http://127\.0\.0\.1"):
        bring("s3://no-such-bucket-here/annotations/one.json", tmp_path / "cache")
    with pytest.raises(InputError, match=r"there is no bucket 'no-such-bucket-here' at http://127\.0\.0\.1"):
        bring("s3://no-such-bucket-here/annotations/one.csv", tmp_path / "cache")
