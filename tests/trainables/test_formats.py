"""Folders of classes, tasks, and `load_dataset`'s errors for bad input. Tables: test_csv_table.py."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset, reopen_images
from visionsweep.core.errors import DataError


def photo(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 20, 3), dtype=np.uint8)).save(path)
    return path


def folder_of_classes(root: Path, classes: dict[str, int], seed: int = 0) -> Path:
    for number, (name, count) in enumerate(classes.items()):
        for i in range(count):
            photo(root / name / f"{i:02d}.jpg", seed + 1000 * number + i)
    return root


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def load(spec: Path | str, **options: object) -> Dataset:
    return load_dataset(str(spec), short_side_px=16, cache_dir=None, **options)[0]  # type: ignore[arg-type]


def refusal(spec: Path | str, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load(spec, **options)
    return str(caught.value)


# --- folders ----------------------------------------------------------------------------------------------------


def test_two_class_folders_are_binary_with_the_second_as_positive(tmp_path: Path) -> None:
    dataset = load(folder_of_classes(tmp_path, {"cat": 5, "dog": 10}))
    assert (dataset.task, dataset.classes) == ("binary", ("cat", "dog"))
    assert dataset.targets.dtype == np.int64
    assert dataset.targets.tolist() == [0] * 5 + [1] * 10
    assert dataset.names[0] == "cat/00.jpg"
    assert dataset.split_origin == "stratified, 20% val, seed 0"
    assert len(dataset.indices("val")) == 3


def test_two_classes_are_multiclass_where_the_user_says_so(tmp_path: Path) -> None:
    assert load(folder_of_classes(tmp_path, {"cat": 3, "dog": 3}), task="multiclass").task == "multiclass"


def test_more_than_two_class_folders_are_multiclass_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    dataset = load(folder_of_classes(tmp_path, {"10": 2, "9": 2, "1": 2}))
    assert (dataset.task, dataset.classes) == ("multiclass", ("1", "9", "10"))


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_a_given_split_is_kept(tmp_path: Path, val: str) -> None:
    folder_of_classes(tmp_path / "train", {"a": 3, "b": 3}, seed=1)
    folder_of_classes(tmp_path / val, {"a": 2, "b": 1}, seed=50)
    folder_of_classes(tmp_path / "test", {"a": 1, "b": 1}, seed=90)
    dataset = load(tmp_path)
    assert dataset.split_origin == "given by the data"
    assert [dataset.names[i] for i in dataset.indices("val")] == [
        f"{val}/a/00.jpg",
        f"{val}/a/01.jpg",
        f"{val}/b/00.jpg",
    ]
    assert dataset.describe()["counts"] == {"train": 6, "val": 3, "test": 2, "skipped": 0, "duplicate": 0}


def test_val_is_split_off_train_where_only_test_is_given(tmp_path: Path) -> None:
    folder_of_classes(tmp_path / "train", {"a": 10, "b": 10}, seed=1)
    folder_of_classes(tmp_path / "test", {"a": 2, "b": 2}, seed=50)
    dataset = load(tmp_path, seed=3)
    assert [dataset.names[i].split("/")[0] for i in dataset.indices("val")] == ["train"] * 4
    assert len(dataset.indices("test")) == 4
    assert dataset.split_origin == "stratified, 20% val, seed 3 (split off train; test given by the data)"


def test_a_train_folder_alone_is_split(tmp_path: Path) -> None:
    dataset = load(folder_of_classes(tmp_path / "train", {"a": 5, "b": 5}).parent)
    assert dataset.classes == ("a", "b")
    assert len(dataset.indices("val")) == 2


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load(folder_of_classes(tmp_path, {"train": 3, "plane": 3})).classes == ("plane", "train")


def test_hidden_files_and_what_file_managers_leave_are_not_images(tmp_path: Path) -> None:
    folder_of_classes(tmp_path, {"a": 3, "b": 3})
    for name in (".DS_Store", "a/.DS_Store", "a/Thumbs.db", "a/._00.jpg", "b/notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    photo(tmp_path / ".ipynb_checkpoints" / "00.jpg", 99)
    photo(tmp_path / "__MACOSX" / "00.jpg", 98)
    dataset = load(tmp_path)
    assert (dataset.classes, len(dataset.names)) == (("a", "b"), 6)


def test_images_in_deeper_folders_and_with_capital_suffixes_count(tmp_path: Path) -> None:
    folder_of_classes(tmp_path, {"a": 3, "b": 3})
    photo(tmp_path / "a" / "monday" / "x.JPG", 77)
    assert "a/monday/x.JPG" in load(tmp_path).names


def test_images_beside_the_class_folders_are_left_out_with_a_note(tmp_path: Path) -> None:
    folder_of_classes(tmp_path, {"a": 3, "b": 3})
    photo(tmp_path / "stray.jpg", 77)
    assert load(tmp_path).notes == ("1 image left out, beside the class folders: 'stray.jpg'.",)


# --- bad input ---------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    folder_of_classes(tmp_path / "flowers", {"a": 2, "b": 2})
    message = refusal(tmp_path / "flower")
    assert "there is no such folder or table" in message
    assert "Did you mean 'flowers'?" in message


def test_an_empty_folder_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert f"no images found in '{tmp_path}'" in message
    assert "DIR/class/*.jpg" in message
    assert ".png" in message


def test_images_without_class_folders_are_refused_and_counted(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", 0)
    assert "1 image found directly in it, but no folders of classes" in refusal(tmp_path)


def test_an_empty_class_folder_is_refused(tmp_path: Path) -> None:
    folder_of_classes(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "c").mkdir()
    assert f"class 'c' has no image in '{tmp_path / 'c'}'. Add its images, or remove the folder." in refusal(tmp_path)


def test_a_class_with_one_image_is_refused(tmp_path: Path) -> None:
    message = refusal(folder_of_classes(tmp_path, {"a": 4, "rare": 1}))
    assert message.startswith("class 'rare' has one image; a class needs two at least")
    assert "Add images, or remove the class." in message


def test_one_class_is_refused(tmp_path: Path) -> None:
    assert "at least two classes, got 1 ('a')" in refusal(folder_of_classes(tmp_path, {"a": 4}))


def test_train_and_val_with_different_classes_are_refused_by_name(tmp_path: Path) -> None:
    folder_of_classes(tmp_path / "train", {"a": 3, "b": 3, "c": 3}, seed=1)
    folder_of_classes(tmp_path / "val", {"a": 2, "b": 2, "d": 2}, seed=50)
    assert "train and val hold different classes: 'c' only in train; 'd' only in val." in refusal(tmp_path)


def test_a_val_folder_without_train_is_refused(tmp_path: Path) -> None:
    folder_of_classes(tmp_path / "val", {"a": 2, "b": 2})
    assert "has 'val' but no 'train' folder" in refusal(tmp_path)


def test_two_validation_folders_are_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        folder_of_classes(tmp_path / name, {"a": 2, "b": 2})
    assert "more than one validation folder" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("binary", "exactly two classes, got 3 ('a', 'b', 'c'). Pass --task multiclass."),
        ("multilabel", "Pass --task multiclass, or write a labels.csv"),
        ("multiclas", "Did you mean 'multiclass'?"),
    ],
)
def test_a_task_that_the_labels_do_not_allow_is_refused(tmp_path: Path, task: str, words: str) -> None:
    assert words in refusal(folder_of_classes(tmp_path, {"a": 2, "b": 2, "c": 2}), task=task)


def test_a_validation_share_outside_zero_and_one_is_refused(tmp_path: Path) -> None:
    assert "must lie between 0 and 1, got 20" in refusal(folder_of_classes(tmp_path, {"a": 2, "b": 2}), val_fraction=20)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    assert "is a file, but neither a folder nor a .csv table" in refusal(photo(tmp_path / "a.jpg", 0))


# --- unreadable images -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [True, False])
def test_a_truncated_image_is_refused_by_name(tmp_path: Path, cached: bool) -> None:
    data = folder_of_classes(tmp_path / "data", {"a": 3, "b": 3})
    truncate(data / "b" / "01.jpg")
    for _ in range(2):  # the second time from the cache
        with pytest.raises(DataError) as caught:
            load_dataset(str(data), short_side_px=16, cache_dir=tmp_path / "cache" if cached else None)
        assert f"{data}: image 'b/01.jpg' cannot be read: image file is truncated" in str(caught.value)
        assert "--on-bad-image skip" in str(caught.value)


def test_unreadable_images_are_skipped_with_a_note_where_the_user_says_so(tmp_path: Path) -> None:
    folder_of_classes(tmp_path, {"a": 6, "b": 6})
    truncate(tmp_path / "a" / "01.jpg")
    (tmp_path / "b" / "02.jpg").write_bytes(b"")
    (tmp_path / "b" / "03.jpg").write_bytes(b"")  # two empty files are no copies of each other: nobody reads them
    dataset, images = load_dataset(str(tmp_path), on_bad_image="skip", short_side_px=16, cache_dir=None)
    assert [dataset.names[i] for i in dataset.indices("skipped")] == ["a/01.jpg", "b/02.jpg", "b/03.jpg"]
    assert dataset.notes == ("3 images skipped as unreadable: 'a/01.jpg', 'b/02.jpg', 'b/03.jpg'.",)
    with pytest.raises(DataError, match=r"'a/01\.jpg' cannot be read"):
        images[1]
    with pytest.raises(DataError, match=r"'a/01\.jpg' was skipped"):
        reopen_images(dataset, 16, None)[1]


def test_a_class_that_only_unreadable_images_fill_is_refused(tmp_path: Path) -> None:
    folder_of_classes(tmp_path, {"a": 3, "b": 2})
    truncate(tmp_path / "b" / "00.jpg")
    truncate(tmp_path / "b" / "01.jpg")
    assert "class 'b' has no readable image" in refusal(tmp_path, on_bad_image="skip")


def test_an_unknown_way_with_bad_images_is_refused(tmp_path: Path) -> None:
    assert "Did you mean 'skip'?" in refusal(folder_of_classes(tmp_path, {"a": 2, "b": 2}), on_bad_image="skp")


# --- crossing process borders --------------------------------------------------------------------------------------


def test_a_data_set_pickles_small_and_reads_the_same_images(tmp_path: Path) -> None:
    dataset, images = load_dataset(
        str(folder_of_classes(tmp_path / "data", {"a": 30, "b": 30})), short_side_px=8, cache_dir=tmp_path / "cache"
    )
    packed = pickle.dumps(dataset)
    assert len(packed) < 80 * 60  # per image a name, a label and its side of the split, but no pixels
    again = pickle.loads(packed)
    assert (again.fingerprint, again.names) == (dataset.fingerprint, dataset.names)
    for reopened in (reopen_images(again, 8, tmp_path / "cache"), reopen_images(again, 8, None)):
        assert all((reopened[i] == images[i]).all() for i in range(60))
