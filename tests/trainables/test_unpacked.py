"""Data one folder down, or several, as archives unpack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_folders import counts, load, photo, photos, refusal
from PIL import Image

from trainables.data.formats import load_described, scan_data
from trainables.data.read_as import ReadAs


@pytest.mark.parametrize("wrapper", ["flowers", "a/b/flowers", "flowers/flowers"])
def test_the_one_folder_that_holds_the_classes_is_entered_and_said(tmp_path: Path, wrapper: str) -> None:
    photos(tmp_path, f"{wrapper}/roses {wrapper}/tulips")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX" / "flowers").mkdir(parents=True)
    dataset = load(tmp_path)
    assert dataset.classes == ("roses", "tulips")
    assert dataset.notes == (f"'{tmp_path}' holds one folder, and the data is read from there: '{wrapper}'.",)


def test_what_is_entered_is_the_same_data_as_the_folder_itself(tmp_path: Path) -> None:
    photos(tmp_path, "flowers/roses flowers/tulips")
    outer = load(tmp_path)
    inner = load(tmp_path / "flowers")
    assert (outer.fingerprint, outer.names) == (inner.fingerprint, inner.names)
    assert scan_data(str(tmp_path), read_as=ReadAs(), cache_dir=None).fingerprint() == inner.fingerprint
    again, images = load_described(outer.describe(), str(tmp_path), read_as=ReadAs(), short_side_px=8, cache_dir=None)
    assert again.fingerprint == inner.fingerprint
    assert images[0].shape == (8, 9, 3)


def test_splits_in_the_one_folder_are_found(tmp_path: Path) -> None:
    dataset = load(photos(tmp_path, "archive/train/a archive/train/b archive/val/a archive/val/b"))
    assert counts(dataset) == {"train": 8, "val": 8}


def test_images_beside_the_one_folder_are_counted(tmp_path: Path) -> None:
    photos(tmp_path, "flowers/roses flowers/tulips")
    photo(tmp_path / "preview.png")
    assert "1 image left out, beside that folder: 'preview.png'." in load(tmp_path).notes


def test_a_train_folder_alone_is_a_split_and_keeps_its_names(tmp_path: Path) -> None:
    dataset = load(photos(tmp_path, "train/a train/b"))
    assert dataset.names[0] == "train/a/0.png"
    assert dataset.notes == ()


def test_one_class_with_some_deeper_images_is_not_entered(tmp_path: Path) -> None:
    assert "at least two classes, got 1 ('cat')" in refusal(photos(tmp_path, "cat cat/indoor cat/outdoor"))


def test_a_table_one_folder_down_is_read(tmp_path: Path) -> None:
    photos(tmp_path, "data/images")
    rows = "".join(f"images/{number}.png,{'ab'[number % 2]}\n" for number in range(4))
    (tmp_path / "data" / "labels.csv").write_text(f"image,label\n{rows}")
    dataset = load(tmp_path)
    assert (dataset.classes, dataset.names[0]) == (("a", "b"), "images/0.png")
    (tmp_path / "data" / "labels.csv").write_text("image,label\nimages/9.png,a\n")
    assert f"{tmp_path}/data/labels.csv, line 2" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("images", "masks"), [("images", "masks"), ("train", "trainannot"), ("train/images", "train/masks")]
)
def test_masks_one_folder_down_are_read(tmp_path: Path, images: str, masks: str) -> None:
    photos(tmp_path / "CamVid", images)
    (tmp_path / "CamVid" / masks).mkdir(parents=True)
    for number in range(4):
        drawn = np.arange(72, dtype=np.uint8).reshape(8, 9) % 3
        Image.fromarray(drawn).save(tmp_path / "CamVid" / masks / f"{number}.png")
    for task in (None, "segmentation"):
        dataset = load(tmp_path, task=task)
        assert (dataset.task, dataset.names[0]) == ("segmentation", f"{images}/0.png")
        assert "the data is read from there: 'CamVid'." in dataset.notes[0]


def test_a_table_beside_the_one_folder_may_hold_the_labels(tmp_path: Path) -> None:
    photos(tmp_path, "images/part1 images/part2")
    (tmp_path / "train.csv").write_text("id,label\n0,a\n")
    message = refusal(tmp_path)
    assert f"--data {tmp_path}/train.csv or --data {tmp_path}/images" in message


def test_one_group_is_not_entered_where_groups_are_asked_for(tmp_path: Path) -> None:
    dataset = load(photos(tmp_path, "siteA/ants siteA/bees"), layout="groups")
    assert (dataset.classes, dataset.names[0]) == (("ants", "bees"), "siteA/ants/0.png")


def test_a_link_that_leads_back_is_not_entered_for_ever(tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(".")
    assert "class 'again' has no image" in refusal(tmp_path)
