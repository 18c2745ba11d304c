"""Splits of masked data by their common names, and masks with other names than their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from drawn_masks import STRIPES, UNNAMED, load, mask, pairs, photo, refusal
from PIL import Image

FORMS = [("images/{}", "masks/{}"), ("{}/images", "{}/masks"), ("{}", "{}annot")]
MORE_FORMS = [
    ("{}/image", "{}/mask"), ("{}/images", "{}/labels"), ("{}/imgs", "{}/masks"), ("images/{}", "annotations/{}"),
    ("{}", "{}_labels"), ("{}", "{}_masks"), ("Images/{}", "Masks/{}"), ("img_dir/{}", "ann_dir/{}"),
]  # fmt: skip


def split_folders(root: Path, form: tuple[str, str], names: Sequence[str], ending: str = "") -> Path:
    for number, name in enumerate(names):
        for i in range(3):
            photo(root / form[0].format(name) / f"{name}{i}.jpg", 10 * number + i)
            mask(root / form[1].format(name) / f"{name}{i}{ending}.png", STRIPES)
    return root


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "dev", "test_set")]
)
def test_splits_have_the_names_that_people_give_them(
    tmp_path: Path, form: tuple[str, str], names: tuple[str, str, str]
) -> None:
    dataset, _ = load(split_folders(tmp_path, form, names))
    assert dataset.split.tolist() == ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    assert dataset.split_origin == "given by the data"
    assert f"'{names[1]}' is taken as val" in dataset.notes[0]
    assert dataset.notes[-1] == UNNAMED


@pytest.mark.parametrize("form", MORE_FORMS)
def test_folders_of_images_and_masks_have_the_names_that_people_give_them(
    tmp_path: Path, form: tuple[str, str]
) -> None:
    dataset, _ = load(split_folders(tmp_path, form, ("train", "val")))
    assert (dataset.task, dataset.split.tolist()) == ("segmentation", ["train"] * 3 + ["val"] * 3)


@pytest.mark.parametrize(
    ("images", "masks"), [("image", "mask"), ("images", "labels"), ("Images", "Masks"), ("img", "label")]
)
def test_two_folders_have_the_names_that_people_give_them(tmp_path: Path, images: str, masks: str) -> None:
    for i in range(4):
        photo(tmp_path / images / f"{i}.jpg", i)
        mask(tmp_path / masks / f"{i}.png", STRIPES)
    dataset, _ = load(tmp_path)
    assert (dataset.task, len(dataset.names)) == ("segmentation", 4)


def test_a_folder_of_boxes_is_no_folder_of_masks(tmp_path: Path) -> None:
    pairs(tmp_path, ("a", "b", "c", "d"))
    (tmp_path / "masks").rename(tmp_path / "labels")
    for file in (tmp_path / "labels").iterdir():
        file.rename(file.with_suffix(".txt"))
    assert "no masks found" in refusal(tmp_path, task="segmentation")


def test_a_folder_of_photos_is_no_folder_of_masks(tmp_path: Path) -> None:
    for i in range(4):
        photo(tmp_path / "images" / f"{i}.png", i)
        photo(tmp_path / "labels" / f"{i}.png", 10 + i)
    assert "no masks found" in refusal(tmp_path, task="segmentation")


def test_a_folder_of_few_colours_is_one_of_masks(tmp_path: Path) -> None:
    for i in range(4):
        photo(tmp_path / "images" / f"{i}.png", i)
        coloured = mask(tmp_path / "labels" / f"{i}.png", STRIPES)
        with Image.open(coloured) as image:
            Image.merge("RGB", [image, image, image.point(lambda value: 90 * value)]).save(coloured)
    (tmp_path / "palette.txt").write_text("0 0 0 a\n1 1 90 b\n2 2 180 c\n")
    assert load(tmp_path)[0].classes == ("a", "b", "c")


@pytest.mark.parametrize("form", FORMS)
def test_a_split_of_an_unknown_name_is_refused_or_left_out_as_asked(tmp_path: Path, form: tuple[str, str]) -> None:
    split_folders(tmp_path, form, ("train", "val", "test1"))
    message = refusal(tmp_path)
    assert "has 'train', 'val', and 'test1', which is no name of a split." in message
    assert "or pass --layout splits to leave it out." in message
    dataset, _ = load(tmp_path, layout="splits")
    assert dataset.split.tolist() == ["train"] * 3 + ["val"] * 3
    assert any(note.startswith("Folders beside 'train', 'val' are left out: 'test1'") for note in dataset.notes)


@pytest.mark.parametrize("form", FORMS)
def test_two_folders_for_one_split_are_refused(tmp_path: Path, form: tuple[str, str]) -> None:
    message = refusal(split_folders(tmp_path, form, ("train", "val", "valid")))
    assert "has 'val' and 'valid' for one split. Join them, or remove one." in message


@pytest.mark.parametrize("form", FORMS)
def test_a_validation_folder_without_masks_is_refused(tmp_path: Path, form: tuple[str, str]) -> None:
    split_folders(tmp_path, form, ("train",))
    photo(tmp_path / form[0].format("valid") / "x.jpg", 99)
    message = refusal(tmp_path)
    assert f"has '{form[0].format('valid')}', but no '{form[1].format('valid')}' with its masks. Add it." in message


def test_what_stands_beside_the_splits_is_named(tmp_path: Path) -> None:
    split_folders(tmp_path, FORMS[1], ("train", "val", "extra"))
    (tmp_path / "docs").mkdir()
    photo(tmp_path / "preview.png", 99)
    notes = load(tmp_path)[0].notes
    assert notes[:2] == (
        "Folders beside 'train', 'val' are left out: 'docs', 'extra'.",
        "1 image left out, beside 'train', 'val': 'preview.png'.",
    )


def test_several_sites_are_refused_or_taken_together_as_asked(tmp_path: Path) -> None:
    split_folders(tmp_path, FORMS[1], ("berlin", "paris"))
    message = refusal(tmp_path)
    assert "holds folders with images and masks, and none is called train: 'berlin', 'paris'." in message
    assert "--layout groups" in message
    dataset, _ = load(tmp_path, layout="groups")
    assert len(dataset.names) == 6
    assert dataset.notes[0] == "Images and masks of 'berlin', 'paris' are taken together."


@pytest.mark.parametrize("layout", [None, "groups"])
def test_folders_of_images_like_splits_without_train_are_refused(tmp_path: Path, layout: str | None) -> None:
    split_folders(tmp_path, FORMS[0], ("val", "train_a"))
    if layout:
        assert len(load(tmp_path, layout=layout)[0].names) == 6
    else:
        assert "'images' in" in refusal(tmp_path)
        assert "has 'train_a', 'val', and none is called train." in refusal(tmp_path)


def test_images_of_a_test_folder_alone_are_read(tmp_path: Path) -> None:
    assert len(load(split_folders(tmp_path, FORMS[0], ("test",)))[0].names) == 3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("names", [("test",), ("valid", "test")])
def test_data_that_is_only_judged_needs_no_train(tmp_path: Path, form: tuple[str, str], names: Sequence[str]) -> None:
    dataset, _ = load(split_folders(tmp_path, form, names), for_training=False)
    assert len(dataset.names) == 3 * len(names)


def test_lists_of_data_that_is_only_judged_need_no_train(tmp_path: Path) -> None:
    pairs(tmp_path, ("a", "b", "c", "d"))
    (tmp_path / "testing.txt").write_text("a\nb\n")
    assert load(tmp_path, for_training=False)[0].split.tolist() == ["test", "test"]
    assert "has 'testing.txt', but no train.txt." in refusal(tmp_path)


def test_folders_of_images_and_of_masks_may_carry_the_splits_names(tmp_path: Path) -> None:
    for name in ("train", "val"):
        for i in range(3):
            photo(tmp_path / f"{name}_images" / f"{i}.jpg", i + 10 * len(name))
            mask(tmp_path / f"{name}_masks" / f"{i}.png", STRIPES)
    assert load(tmp_path)[0].split.tolist() == ["train"] * 3 + ["val"] * 3


def test_one_folder_that_holds_everything_is_entered(tmp_path: Path) -> None:
    pairs(tmp_path / "archive", ("a", "b", "c", "d"))
    (tmp_path / "archive" / "classes.txt").write_text("x\ny\nz\n")
    (tmp_path / "archive" / "train.txt").write_text("a\nb\nc\n")
    (tmp_path / "archive" / "valid.txt").write_text("images/d.jpg\n")
    dataset, _ = load(tmp_path)
    assert (dataset.classes, dataset.names[0]) == (("x", "y", "z"), "images/a.jpg")
    assert dataset.split.tolist() == ["train", "train", "train", "val"]
    assert "archive" in dataset.notes[0]


# --- lists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("train", "valid"), ("Train", "Val"), ("training", "validation")])
def test_lists_have_the_names_that_people_give_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    pairs(tmp_path, ("a", "b", "c", "d"))
    (tmp_path / f"{names[0]}.txt").write_text("a\nb\nc\n")
    (tmp_path / f"{names[1]}.txt").write_text("d\n")
    dataset, _ = load(tmp_path)
    assert dataset.split.tolist() == ["train", "train", "train", "val"]
    assert f"'{names[1]}.txt' is taken as val" in dataset.notes[0]


def test_two_lists_for_one_split_are_refused(tmp_path: Path) -> None:
    pairs(tmp_path, ("a", "b", "c", "d"))
    for name, line in (("train", "a\nb"), ("val", "c"), ("valid", "d")):
        (tmp_path / f"{name}.txt").write_text(line)
    assert "has 'val.txt' and 'valid.txt' for one split. Keep one of them." in refusal(tmp_path)


def test_a_list_of_an_unknown_split_is_refused(tmp_path: Path) -> None:
    pairs(tmp_path, ("a", "b", "c", "d"))
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    (tmp_path / "val2.txt").write_text("d\n")
    assert "has 'train.txt', and 'val2.txt' with a name that is no split's. Rename it to val.txt" in refusal(tmp_path)
    (tmp_path / "val2.txt").rename(tmp_path / "test_results.txt")
    assert "Lists that are not used: 'test_results.txt'." in load(tmp_path)[0].notes


# --- masks with names of their own --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "of_mask"),
    [
        ("{}", "{}_mask"), ("{}", "{}_L"), ("{}", "{}-label"), ("{}_sat", "{}_mask"), ("img_{}", "mask_{}"),
        ("img_{}", "img_{}_seg_map"), ("{}/image", "{}/mask"), ("{}", "trimaps/{}"),
    ],
)  # fmt: skip
def test_words_that_all_names_share_do_not_tell_files_apart(tmp_path: Path, image: str, of_mask: str) -> None:
    for i in range(4):
        photo(tmp_path / "images" / f"{image.format(f'00{i}')}.jpg", i)
        mask(tmp_path / "masks" / f"{of_mask.format(f'00{i}')}.png", (0, 1, 2) if i else (2, 1, 0))
    dataset, images = load(tmp_path)
    assert len(dataset.names) == 4
    assert images.mask(0)[0, 0] == 2
    assert dataset.notes[0].startswith("No mask has the stem of an image. They are matched without the words that all")
    assert f"'images/{image.format('000')}.jpg' has 'masks/{of_mask.format('000')}.png'" in dataset.notes[0]


def test_several_masks_of_one_image_are_not_guessed_at(tmp_path: Path) -> None:
    for i in range(4):
        photo(tmp_path / "images" / f"{i}.jpg", i)
        for ending in ("mask", "mask_1"):
            mask(tmp_path / "masks" / f"{i}_{ending}.png", STRIPES)
    assert "image 'images/0.jpg' has no mask 'masks/0.*' (3 more like it)." in refusal(tmp_path)


def roboflow(root: Path, splits: Sequence[str] = ("train", "valid")) -> Path:
    for number, split in enumerate(splits):
        for i in range(3):
            photo(root / split / f"{split}{i}.rf.1a.jpg", 10 * number + i)
            mask(root / split / f"{split}{i}.rf.1a_mask.png", STRIPES)
        (root / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, crack\n2, hole\n")
    return root


def test_roboflows_masks_stand_among_the_images(tmp_path: Path) -> None:
    dataset, images = load(roboflow(tmp_path), task="segmentation")
    assert dataset.classes == ("background", "crack", "hole")
    assert dataset.split.tolist() == ["train"] * 3 + ["val"] * 3
    assert dataset.names[0] == "train/train0.rf.1a.jpg"
    assert images.mask(0)[2, 0] == 1
    assert dataset.notes == ("'valid' is taken as val.", "The classes are named by _classes.csv.")
    assert load(tmp_path)[0].fingerprint == dataset.fingerprint


def test_roboflows_values_may_have_gaps(tmp_path: Path) -> None:
    roboflow(tmp_path)
    for split in ("train", "valid"):
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n2, hole\n1, void\n")
    dataset, images = load(tmp_path)
    assert dataset.classes == ("background", "hole")
    assert images.mask(0)[[0, 2, 4], 0].tolist() == [0, 255, 1]


def test_roboflows_tables_that_disagree_are_refused(tmp_path: Path) -> None:
    roboflow(tmp_path)
    (tmp_path / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, hole\n2, crack\n")
    assert "'train/_classes.csv', " in refusal(tmp_path).replace(f"{tmp_path}/", "")


def test_an_image_without_its_mask_among_roboflows_is_refused(tmp_path: Path) -> None:
    photo(roboflow(tmp_path) / "train" / "lone.jpg", 99)
    assert "image 'train/lone.jpg' has no mask 'train/lone_mask.*'. Add it" in refusal(tmp_path)


def test_images_and_masks_of_one_folder_may_both_have_endings(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val")):
        for i in range(3):
            photo(tmp_path / split / f"10{i}_sat.jpg", 10 * number + i)
            mask(tmp_path / split / f"10{i}_mask.png", STRIPES)
    dataset, _ = load(tmp_path)
    assert len(dataset.names) == 6
    assert "'train/100_sat.jpg' has 'train/100_mask.png'" in dataset.notes[0]


@pytest.mark.parametrize("folders", [("",), ("photos",), ("benign", "malignant")])
def test_masks_among_images_are_read_where_masks_are_asked_for(tmp_path: Path, folders: Sequence[str]) -> None:
    for number, folder in enumerate(folders):
        for i in range(4):
            photo(tmp_path / folder / f"{i}.png", 10 * number + i)
            mask(tmp_path / folder / f"{i}_mask.png", (0, 255))
    dataset, _ = load(tmp_path, task="segmentation")
    assert (dataset.classes, len(dataset.names)) == (("background", "foreground"), 4 * len(folders))
    photo(tmp_path / folders[0] / "x.png", 99)
    where = f"{folders[0]}/" if folders[0] else ""
    assert f"image '{where}x.png' has no mask '{where}x_mask.*'. Add it" in refusal(tmp_path, task="segmentation")
