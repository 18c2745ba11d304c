"""The line that sums up a user's data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support import make_photos

from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset, scan_data
from trainables.data.summary import name_of, scan_summary, summary


def load(spec: Path | str, **options: object) -> Dataset:
    return load_dataset(str(spec), short_side_px=16, cache_dir=None, **options)[0]  # type: ignore[arg-type]


def test_a_folder_is_one_line_with_its_classes_and_its_split(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("val", 3)):
        make_photos(tmp_path / "photos" / split, {"ants": count, "bees": count + 1})
    line = "photos: 20 images, 2 classes (ants 9, bees 11); 13 to train on, 7 to judge by (the folder's own split)"
    assert summary(load(tmp_path / "photos")) == line


def test_a_split_that_was_drawn_is_called_so_and_a_test_split_is_counted(tmp_path: Path) -> None:
    assert summary(load(make_photos(tmp_path / "photos", {"ants": 10, "bees": 10}))) == (
        "photos: 20 images, 2 classes (ants 10, bees 10); 16 to train on, 4 to judge by "
        "(split drawn: stratified, 20% val, seed 0)"
    )
    rows = [
        f"{name}/{i:02d}.png,{name},{'test' if i < 2 else 'val' if i < 4 else 'train'}"
        for name in ("ants", "bees")
        for i in range(10)
    ]
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(["image,label,split", *rows]))
    line = summary(load(tmp_path / "photos" / "labels.csv"))
    assert line.endswith("; 12 to train on, 4 to judge by, 4 to test on (the table's own split)")


def test_of_many_classes_the_largest_and_the_smallest_are_named(tmp_path: Path) -> None:
    many = make_photos(tmp_path / "many", {f"kind {letter}": 2 + ord(letter) - ord("a") for letter in "abcdefgh"})
    assert "8 classes (largest kind h 9, smallest kind a 2, 6 more)" in summary(load(many))
    same = make_photos(tmp_path / "same", {f"kind {letter}": 2 for letter in "abcdefgh"})
    assert "8 classes (each 2)" in summary(load(same))
    numbers = make_photos(tmp_path / "numbers", {"0": 2, "1": 3})
    assert "2 classes ('0' 2, '1' 3)" in summary(load(numbers))


def test_tags_are_counted_by_image_and_masks_by_their_share_of_pixels() -> None:
    assert "1,000 images, 10 tags (largest '7' 251, smallest '2' 202, 8 more)" in summary(load("digits:multilabel"))
    assert "1,000 images with masks, 11 classes (largest background 84.6%," in summary(load("digits:segmentation"))


def test_what_is_skipped_is_not_counted(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"ants": 10, "bees": 10})
    (photos / "ants" / "00.png").write_bytes(b"no image")
    assert "19 images, 2 classes (ants 9, bees 10)" in summary(load(photos, on_bad_image="skip"))


def test_before_anything_is_decoded_there_is_no_split_and_no_share(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"ants": 10, "bees": 10})
    assert (
        scan_summary(str(photos), scan_data(str(photos), cache_dir=None))
        == "photos: 20 images, 2 classes (ants 10, bees 10)"
    )
    masks = scan_data("digits:segmentation", cache_dir=None)
    assert not np.any(masks.targets)
    assert "11 classes (background, 0, 1" not in scan_summary("digits:segmentation", masks)
    assert scan_summary("digits:segmentation", masks) == "digits:segmentation: 1,000 images with masks, 11 classes"


def test_a_path_is_called_by_its_last_part() -> None:
    assert name_of("/data/photos/") == "photos"
    assert name_of("s3://bucket/photos") == "s3://bucket/photos"
    assert name_of("digits") == "digits"
