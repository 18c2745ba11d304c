"""Which folders are classes, splits or groups, by their names and by what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_folders import counts, load, photo, photos, refusal

from trainables.data.split_names import SPLIT_NAMES, looks_like_a_split, resembled_split, split_of

# --- splits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("Train", "Test"),
        ("TRAIN", "TEST"),
        ("seg_train", "seg_test"),
        ("training_set", "test_set"),
        ("training-set", "Test Set"),
        ("training_set/training_set", "test_set/test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train/images", "test/images"),
    ],
)
def test_splits_are_known_by_all_their_names_and_said(tmp_path: Path, train: str, test: str) -> None:
    for folder in (train, test):
        for name in ("cat", "dog"):
            for number in range(5):
                photo(tmp_path / folder / name / f"{number}.jpg")
    dataset = load(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert counts(dataset) == {"train": 8, "val": 2, "test": 10}
    (note,) = dataset.notes
    assert f"'{train}' is taken as train" in note
    assert f"'{test}' is taken as test" in note


@pytest.mark.parametrize("val", [name for name in SPLIT_NAMES["val"] if name != "val"])
def test_every_name_of_val_gives_images_to_judge_by(tmp_path: Path, val: str) -> None:
    photos(tmp_path, f"train/cat train/dog {val}/cat {val}/dog")
    dataset = load(tmp_path)
    assert dataset.split_origin == "given by the data"
    assert counts(dataset) == {"train": 8, "val": 8}
    assert dataset.notes == (f"'{val}' is taken as val.",)


def test_plain_names_need_no_note(tmp_path: Path) -> None:
    assert load(photos(tmp_path, "train/cat train/dog val/cat val/dog test/cat test/dog")).notes == ()


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [("Train", "train", "training"), ("Validation", "valid", "validation"), ("test", "testing", "test")],
)
def test_two_folders_of_one_split_are_refused(tmp_path: Path, first: str, second: str, what: str) -> None:
    photos(tmp_path, f"train/cat train/dog {first}/cat {first}/dog {second}/cat {second}/dog")
    message = refusal(tmp_path)
    assert f"more than one {what} folder ('{first}', '{second}'). Keep one of them." in message


@pytest.mark.parametrize("folders", ["train test", "Training Testing", "train val test", "train test1", "train valid"])
def test_splits_without_folders_of_classes_are_refused_with_the_readings(tmp_path: Path, folders: str) -> None:
    message = refusal(photos(tmp_path, folders))
    for name in folders.split():
        assert f"'{name}'" in message
    assert "look like splits but hold images and no folders of classes" in message
    assert "DIR/train/class/*.jpg" in message
    assert "labels.csv" in message
    assert "--layout classes" in message
    assert load(tmp_path, layout="classes").classes == tuple(sorted(folders.split()))


def test_a_third_class_does_not_make_train_and_test_classes(tmp_path: Path) -> None:
    assert "'test', 'train', which look like splits" in refusal(photos(tmp_path, "train test plane"))


@pytest.mark.parametrize("folders", ["train plane", "train plane car", "plane test", "bullet_train steam_train"])
def test_one_name_of_a_split_among_classes_is_a_class(tmp_path: Path, folders: str) -> None:
    dataset = load(photos(tmp_path, folders))
    assert dataset.classes == tuple(sorted(folders.split()))
    said = [f"'{name}' is taken as a class" for name in folders.split() if split_of(name)]
    assert len(dataset.notes) == len(said)
    assert all(words in note for words, note in zip(said, dataset.notes, strict=True))


@pytest.mark.parametrize(
    "odd", ["test1", "test_2019", "testA", "cats_test", "test1/cat test1/dog", "val2/cat val2/dog"]
)
def test_a_folder_that_is_nearly_called_like_a_split_is_refused_beside_splits(tmp_path: Path, odd: str) -> None:
    name = odd.split()[0].split("/")[0]
    message = refusal(photos(tmp_path, f"train/cat train/dog {odd}"))
    assert f"'train' beside '{name}'" in message
    assert f"Rename '{name}'" in message
    assert "--layout splits to leave it out" in message
    assert "--layout classes" in message
    dataset = load(tmp_path, layout="splits")
    assert (dataset.classes, len(dataset.names)) == (("cat", "dog"), 8)
    assert dataset.notes == (f"Folders beside 'train' are left out: '{name}'.",)
    assert load(tmp_path, layout="classes").classes == tuple(sorted(["train", name]))


def test_a_folder_of_another_name_beside_splits_is_a_note(tmp_path: Path) -> None:
    dataset = load(photos(tmp_path, "train/cat train/dog val/cat val/dog readme_images"))
    assert dataset.notes == ("Folders beside 'train', 'val' are left out: 'readme_images'.",)


def test_test_images_of_no_class_are_refused_until_they_are_left_out(tmp_path: Path) -> None:
    message = refusal(photos(tmp_path, "train/cat train/dog test"))
    assert "classes in 'train', but no folders of classes in 'test'" in message
    assert "--layout splits to leave 'test' out" in message
    assert counts(load(tmp_path, layout="splits")) == {"train": 6, "val": 2}


@pytest.mark.parametrize(
    "folders", ["train_2019/cat train_2019/dog test_2019/cat test_2019/dog", "cats_train/a cats_test"]
)
def test_folders_of_classes_that_are_only_nearly_called_like_splits_are_refused(tmp_path: Path, folders: str) -> None:
    message = refusal(photos(tmp_path, folders))
    assert "look like splits and are not called train, val and test. Rename them" in message
    assert "--layout classes" in message


def test_what_is_nearly_called_train_is_named_where_train_is_missing(tmp_path: Path) -> None:
    message = refusal(photos(tmp_path, "train_2019/cat train_2019/dog val/cat val/dog"))
    assert "has 'val' but no 'train' folder of classes. Rename 'train_2019' to train" in message


def test_images_beside_the_classes_of_a_split_are_counted(tmp_path: Path) -> None:
    photos(tmp_path, "train/cat train/dog val/cat val/dog")
    photo(tmp_path / "train" / "stray.png")
    assert load(tmp_path).notes == ("1 image left out, beside the class folders: 'train/stray.png'.",)


def test_a_val_folder_whose_classes_are_empty_is_said(tmp_path: Path) -> None:
    photos(tmp_path, "train/cat train/dog")
    (tmp_path / "val" / "cat").mkdir(parents=True)
    assert load(tmp_path).notes == ("No image is read for val, though there are folders for it.",)


@pytest.mark.parametrize("folders", ["train/images valid/images", "train/images train/labels", "Images Annotations"])
def test_parts_of_data_for_other_tasks_are_no_classes(tmp_path: Path, folders: str) -> None:
    message = refusal(photos(tmp_path, folders))
    assert "which look like the parts of a data set and not like classes" in message
    option = "splits" if "train" in folders else "classes"
    assert f"--layout {option} if these are the classes" in message
    if "labels" in folders or option == "classes":
        assert len(load(tmp_path, layout=option).classes) == 2


def test_empty_folders_beside_the_images_of_a_split_are_no_classes(tmp_path: Path) -> None:
    photos(tmp_path, "train valid")
    for split in ("train", "valid"):
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "0.txt").write_text("a box")
    assert "look like splits but hold images and no folders of classes" in refusal(tmp_path)


def test_layout_splits_needs_a_train_folder(tmp_path: Path) -> None:
    assert "--layout splits: " in refusal(photos(tmp_path, "cat dog"), layout="splits")


def test_masks_beside_their_images_are_recognised(tmp_path: Path) -> None:
    photos(tmp_path, "train valid")
    for split in ("train", "valid"):
        for number in range(4):
            photo(tmp_path / split / f"{number}_mask.png")
    assert "--task segmentation" in refusal(tmp_path, task="multiclass")


def test_names_that_resemble_a_split_are_told_from_other_words() -> None:
    for name in ("test1", "train_2019", "train2017", "trainA", "Test1", "cats_train", "val-2", "asl_alphabet_test"):
        assert looks_like_a_split(name), name
    for name in ("train", "Testing", "valley", "trainer", "testudo", "trains", "development", "validity", "plane"):
        assert not looks_like_a_split(name), name
    assert (resembled_split("train_2019"), resembled_split("validation2")) == ("train", "val")


# --- groups -------------------------------------------------------------------------------------------------------

SITES = "siteA/ants siteA/bees siteB/ants siteB/bees"


def test_folders_that_all_hold_the_same_folders_are_refused_with_both_readings(tmp_path: Path) -> None:
    message = refusal(photos(tmp_path, SITES))
    assert "'siteA', 'siteB', which hold the same folders: 'ants', 'bees'." in message
    assert "--layout classes if 'siteA', 'siteB' are the classes" in message
    assert "--layout groups if 'ants', 'bees' are" in message


def test_layout_classes_takes_the_upper_folders(tmp_path: Path) -> None:
    dataset = load(photos(tmp_path, SITES), layout="classes")
    assert (dataset.classes, len(dataset.names), dataset.notes) == (("siteA", "siteB"), 16, ())


def test_layout_groups_takes_the_lower_folders(tmp_path: Path) -> None:
    photos(tmp_path, f"{SITES} siteC/ants notes")
    photo(tmp_path / "siteA" / "stray.png")
    dataset = load(tmp_path, layout="groups")
    assert (dataset.classes, len(dataset.names)) == (("ants", "bees"), 20)
    assert [int(target) for target in dataset.targets[:8]] == [0] * 4 + [1] * 4
    assert dataset.notes == (
        "Taken as groups, with the classes inside: 'siteA', 'siteB', 'siteC'. A drawn split may divide them.",
        "Folders without folders of classes are left out: 'notes'.",
        "1 image left out, beside the class folders: 'siteA/stray.png'.",
    )


def test_a_group_may_lack_a_class(tmp_path: Path) -> None:
    photos(tmp_path, "siteA/ants siteA/bees siteB/ants siteB/bees siteC/ants")
    assert "hold the same folders" in refusal(tmp_path)
    (tmp_path / "siteC" / "bees").mkdir()
    assert len(load(tmp_path, layout="groups").names) == 20


def test_the_same_rooms_inside_of_classes_are_doubtful_too(tmp_path: Path) -> None:
    assert "'indoor', 'outdoor'" in refusal(photos(tmp_path, "cat/indoor cat/outdoor dog/indoor dog/outdoor"))


def test_classes_with_images_of_their_own_are_no_groups(tmp_path: Path) -> None:
    dataset = load(photos(tmp_path, "cat cat/indoor cat/outdoor dog dog/indoor dog/outdoor"))
    assert (dataset.classes, len(dataset.names), dataset.notes) == (("cat", "dog"), 24, ())


def test_classes_whose_images_all_stand_deeper_are_said(tmp_path: Path) -> None:
    dataset = load(photos(tmp_path, "animals/cat animals/dog vehicles/bus vehicles/car"))
    assert dataset.classes == ("animals", "vehicles")
    assert "such as 'animals/cat/0.png': the upper folders are taken as the classes." in dataset.notes[0]


def test_groups_below_splits_are_refused_and_can_be_read(tmp_path: Path) -> None:
    photos(tmp_path, " ".join(f"{split}/{place}" for split in ("train", "val") for place in SITES.split()))
    assert f"'{tmp_path}/train' has 'siteA', 'siteB', which hold the same folders" in refusal(tmp_path)
    dataset = load(tmp_path, layout="groups")
    assert (dataset.classes, counts(dataset)) == (("ants", "bees"), {"train": 16, "val": 16})


def test_splits_below_groups_can_be_read(tmp_path: Path) -> None:
    photos(tmp_path, " ".join(f"{site}/{split}/{name}" for site in "AB" for split in ("train", "val") for name in "xy"))
    assert "--layout groups if the classes are deeper" in refusal(tmp_path)
    dataset = load(tmp_path, layout="groups")
    assert (dataset.classes, counts(dataset)) == (("x", "y"), {"train": 16, "val": 16})


def test_splits_inside_of_classes_are_refused(tmp_path: Path) -> None:
    message = refusal(photos(tmp_path, "cat/train cat/val dog/train dog/val"))
    assert "Splits stand above the classes: move the folders to DIR/train/class/*.jpg" in message
    assert load(tmp_path, layout="classes").classes == ("cat", "dog")


def test_layout_groups_without_groups_is_refused(tmp_path: Path) -> None:
    assert "--layout groups: no folder in " in refusal(photos(tmp_path, "cat dog"), layout="groups")


def test_a_layout_is_refused_beside_a_table(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog")
    (tmp_path / "labels.csv").write_text("image,label\ncat/0.png,cat\ndog/0.png,dog\n")
    assert "--layout classes is for folders of classes, but " in refusal(tmp_path, layout="classes")


# --- names --------------------------------------------------------------------------------------------------------


def test_class_names_in_two_forms_of_unicode_are_told_apart(tmp_path: Path) -> None:
    message = refusal(photos(tmp_path, "caf\u00e9 cafe\u0301 dog"))
    assert "composed 'caf\\xe9'" in message
    assert "decomposed 'cafe\\u0301'" in message
    for folder in ("train/caf\u00e9", "train/dog", "val/cafe\u0301", "val/dog"):
        photos(tmp_path / "split", folder)
    assert "two forms" in refusal(tmp_path / "split") or "2 forms" in refusal(tmp_path / "split")


def test_class_names_that_differ_in_case_are_said(tmp_path: Path) -> None:
    dataset = load(photos(tmp_path, "Cat cat dog"))
    assert dataset.classes == ("Cat", "cat", "dog")
    assert dataset.notes == ("Classes that differ only in case or blanks are taken as 2: 'Cat', 'cat'.",)
