"""Which image belongs to which mask and to which side of the split. What the masks hold: test_masks.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_masks import STRIPES, UNNAMED, load, mask, pairs, photo, refusal, stripes

from trainables.data.mask_classes import VOC_CLASSES

STEMS = ("a", "b", "c", "d")


def names_of(dataset: object, split: str) -> list[str]:
    return [dataset.names[i] for i in dataset.indices(split)]  # type: ignore[attr-defined]


def camvid(root: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    for number, split in enumerate(splits):
        for i in range(3):
            photo(root / split / f"{split}{i}.png", 10 * number + i)
            mask(root / f"{split}annot" / f"{split}{i}.png", STRIPES)
    return root


def voc(root: Path, lists: dict[str, str]) -> Path:
    for i, stem in enumerate(["2007_01", "2007_02", "2007_03", "2007_04", "2007_05"]):
        photo(root / "JPEGImages" / f"{stem}.jpg", i)
        if i < 4:
            mask(root / "SegmentationClass" / f"{stem}.png", (0, 255, 15))
    for name, content in lists.items():
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(content)
    return root


# --- images/ and masks/ -------------------------------------------------------------------------------------------


def test_images_and_masks_with_the_same_stem_belong_together(tmp_path: Path) -> None:
    pairs(tmp_path, ["a", "b.2020", "deep/c"])
    photo(tmp_path / "images" / "d.PNG", 7)
    mask(tmp_path / "masks" / "d.tif", (2, 1, 0))
    (tmp_path / "masks" / ".DS_Store").write_bytes(b"x")
    dataset, images = load(tmp_path)
    assert dataset.names == ("images/a.jpg", "images/b.2020.jpg", "images/d.PNG", "images/deep/c.jpg")
    assert (images.mask(2) == stripes((2, 1, 0))).all()
    assert dataset.split_origin == "stratified, 20% val, seed 0"
    assert dataset.notes == (UNNAMED,)
    assert dataset.mask_reader is not None
    assert (dataset.mask_reader(3) == stripes(STRIPES)).all()


def test_a_drawn_split_shows_rare_classes_on_both_sides(tmp_path: Path) -> None:
    pairs(tmp_path, [f"{i:02d}" for i in range(40)], (0, 1))
    for i in (3, 21):
        mask(tmp_path / "masks" / f"{i:02d}.png", (0, 1, 2))
    for seed in range(4):
        dataset, _ = load(tmp_path, seed=seed)
        assert sorted(dataset.split[[3, 21]].tolist()) == ["train", "val"]
        assert len(dataset.indices("val")) == 8


def test_a_class_that_a_side_never_shows_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("x\ny\nz\nrare\nnever\n")
    pairs(tmp_path, STEMS)
    mask(tmp_path / "masks" / "a.png", (0, 1, 2, 3))
    dataset, _ = load(tmp_path)
    assert dataset.notes == (
        "No train mask has this class: 'never'.",
        "No val mask has these classes: 'rare', 'never'.",
    )


def test_lists_give_the_split_by_stems_or_file_names(tmp_path: Path) -> None:
    pairs(tmp_path, [*STEMS, "e", "f"])
    (tmp_path / "train.txt").write_text("\ufeffa\n\nb.jpg\nimages/c.jpg\n", encoding="utf-8")
    (tmp_path / "val.txt").write_text("d.png\r\n")
    (tmp_path / "test.txt").write_text("e\n")
    dataset, _ = load(tmp_path)
    assert names_of(dataset, "train") == ["images/a.jpg", "images/b.jpg", "images/c.jpg"]
    assert (names_of(dataset, "val"), names_of(dataset, "test")) == (["images/d.jpg"], ["images/e.jpg"])
    assert dataset.split_origin == "given by the data"
    assert dataset.notes == ("1 image with a mask left out, as no list names it: 'images/f.jpg'.", UNNAMED)


def test_val_is_drawn_where_only_train_is_listed(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    (tmp_path / "train.txt").write_text("a\nb\nc\nd\n")
    assert len(load(tmp_path)[0].indices("val")) == 1


def test_exact_copies_with_different_masks_are_pointed_out(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    photo(tmp_path / "images" / "b.jpg", 0)  # as a
    flipped = stripes(STRIPES)[::-1]  # of the same classes and counts
    mask(tmp_path / "masks" / "b.png", flipped)
    notes = load(tmp_path)[0].notes
    assert "Exact copies with different masks, of which one must be wrong: 'images/a.jpg', 'images/b.jpg'." in notes


def test_a_training_copy_of_a_val_image_is_left_out(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    photo(tmp_path / "images" / "b.jpg", 0)  # as a
    (tmp_path / "train.txt").write_text("b\nc\n")
    (tmp_path / "val.txt").write_text("a\nd\n")
    assert load(tmp_path)[0].split.tolist() == ["val", "duplicate", "train", "val"]


def test_masks_without_an_image_are_left_out_with_a_note(tmp_path: Path) -> None:
    mask(pairs(tmp_path, STEMS) / "masks" / "z.png", STRIPES)
    assert load(tmp_path)[0].notes == ("1 mask left out, without an image: 'masks/z.png'.", UNNAMED)


def test_images_without_a_mask_are_refused_and_counted(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    photo(tmp_path / "images" / "x.jpg", 70)
    photo(tmp_path / "images" / "y.jpg", 71)
    assert refusal(tmp_path) == (
        f"{tmp_path}: image 'images/x.jpg' has no mask 'masks/x.*' (1 more like it). Add it, list the images to use in "
        "train.txt and val.txt, or pass --on-bad-image skip to leave out what has no mask."
    )
    dataset, _ = load(tmp_path, on_bad_image="skip")
    assert len(dataset.names) == 4
    assert dataset.notes == ("2 images left out, without a mask: 'images/x.jpg', 'images/y.jpg'.", UNNAMED)


def test_masks_with_other_stems_are_named_as_the_reason(tmp_path: Path) -> None:
    for i, stem in enumerate(STEMS):
        photo(tmp_path / "images" / f"{stem}.jpg", i)
        mask(tmp_path / "masks" / f"{stem}{i}.png", STRIPES)
    assert "'masks/a0.png' belongs to no image: masks need the stems of their images." in refusal(tmp_path)


def test_a_jpeg_is_no_mask(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    (tmp_path / "masks" / "b.png").unlink()
    photo(tmp_path / "masks" / "b.jpg", 1)
    message = refusal(tmp_path)
    assert "image 'images/b.jpg' has no mask 'masks/b.*'. 'masks/b.jpg' is no mask: JPEG's compression" in message


def test_two_images_with_one_stem_are_refused(tmp_path: Path) -> None:
    photo(pairs(tmp_path, STEMS) / "images" / "a.png", 9)
    assert "'images/a.jpg' and 'images/a.png' have the same stem" in refusal(tmp_path)


def test_a_listed_name_without_an_image_is_refused_with_its_line(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    (tmp_path / "val.txt").write_text("d\nnobody\n")
    message = refusal(tmp_path)
    assert "val.txt, line 2, lists 'nobody', but there is no image 'images/nobody.*'. Fix the line" in message
    notes = load(tmp_path, on_bad_image="skip")[0].notes
    assert notes == ("1 listed name left out, without an image: 'nobody'.", UNNAMED)


def test_an_image_on_two_lists_is_refused(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    (tmp_path / "val.txt").write_text("d\nc\n")
    assert "'c' stands in val.txt and in train.txt, line 3." in refusal(tmp_path)


def test_lists_without_a_train_txt_are_refused(tmp_path: Path) -> None:
    (pairs(tmp_path, STEMS) / "val.txt").write_text("a\n")
    assert "has 'val.txt', but no train.txt. Add it" in refusal(tmp_path)


# --- CamVid and Pascal VOC ----------------------------------------------------------------------------------------


def test_camvid_folders_give_the_split(tmp_path: Path) -> None:
    (camvid(tmp_path) / "classes.txt").write_text("sky\nroad\nvoid\n")
    dataset, images = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("segmentation", ("sky", "road"))
    assert dataset.describe()["counts"] == {"train": 3, "val": 3, "test": 3, "skipped": 0, "duplicate": 0}
    assert dataset.names[3] == "val/val0.png"
    assert (images.mask(3) == stripes((0, 1, 255))).all()


@pytest.mark.parametrize(
    ("of_images", "of_masks"), [("images/{}", "masks/{}"), ("{}/images", "{}/masks"), ("{}", "{}annot")]
)
def test_folders_of_a_split_may_stand_inside_or_outside(tmp_path: Path, of_images: str, of_masks: str) -> None:
    for number, split in enumerate(("train", "val")):
        for i in range(2):
            photo(tmp_path / of_images.format(split) / f"{i}.jpg", 10 * number + i)
            mask(tmp_path / of_masks.format(split) / f"{i}.png", STRIPES)
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.split_origin) == ("segmentation", "given by the data")
    assert dataset.names[2] == f"{of_images.format('val')}/0.jpg"
    assert dataset.split.tolist() == ["train", "train", "val", "val"]


def test_lists_come_before_the_folders_of_a_split(tmp_path: Path) -> None:
    pairs(tmp_path, ["train/a", "train/b", "val/c"])
    (tmp_path / "train.txt").write_text("train/a\nval/c\n")
    (tmp_path / "val.txt").write_text("train/b\n")
    assert load(tmp_path)[0].split.tolist() == ["train", "val", "train"]


def test_camvid_without_test_or_its_masks_does(tmp_path: Path) -> None:
    camvid(tmp_path, ("train", "val"))
    assert load(tmp_path)[0].notes == (UNNAMED,)
    photo(tmp_path / "test" / "x.png", 99)
    left_out = "The images in 'test' are left out: there is no 'testannot' with their masks."
    assert load(tmp_path)[0].notes == (left_out, UNNAMED)


def test_camvid_without_the_masks_of_val_is_refused(tmp_path: Path) -> None:
    camvid(tmp_path, ("train",))
    photo(tmp_path / "val" / "x.png", 99)
    assert "has 'val', but no 'valannot' with its masks. Add it." in refusal(tmp_path)


@pytest.mark.parametrize("base", ["", "VOC2012", "VOCdevkit/VOC2007"])
def test_pascal_voc_uses_the_listed_images_and_its_own_classes(tmp_path: Path, base: str) -> None:
    voc(tmp_path / base, {"train": "2007_01\n2007_02\n", "val": "2007_03\n"})
    dataset, images = load(tmp_path)
    assert dataset.classes == VOC_CLASSES
    assert len(VOC_CLASSES) == 21
    assert [Path(name).name for name in dataset.names] == ["2007_01.jpg", "2007_02.jpg", "2007_03.jpg"]
    assert dataset.split.tolist() == ["train", "train", "val"]
    assert (images.mask(0) == stripes((0, 255, 15))).all()


def test_pascal_voc_may_name_other_classes(tmp_path: Path) -> None:
    voc(tmp_path, {"train": "2007_01\n2007_02\n", "val": "2007_03\n"})
    (tmp_path / "classes.txt").write_text("\n".join(f"c{i}" for i in range(16)))
    assert len(load(tmp_path)[0].classes) == 16


def test_trainval_stands_in_for_a_missing_train(tmp_path: Path) -> None:
    voc(tmp_path, {"trainval": "2007_01\n2007_02\n2007_03\n", "val": "2007_03\n"})
    assert load(tmp_path)[0].split.tolist() == ["train", "train", "val"]


def test_listed_test_images_whose_masks_are_kept_secret_are_left_out(tmp_path: Path) -> None:
    voc(tmp_path, {"train": "2007_01\n2007_02\n", "val": "2007_03\n", "test": "2007_05\n"})
    dataset, _ = load(tmp_path)
    assert "1 test image left out, as none of them has a mask." in dataset.notes
    assert len(dataset.names) == 3


def test_pascal_voc_without_lists_or_of_two_years_is_refused(tmp_path: Path) -> None:
    voc(tmp_path / "VOC2012", {})
    assert "'VOC2012/ImageSets/Segmentation' has no train.txt" in refusal(tmp_path)
    voc(tmp_path / "VOC2007", {})
    assert "more than one Pascal VOC ('VOC2007', 'VOC2012')" in refusal(tmp_path)


# --- the task -----------------------------------------------------------------------------------------------------


def test_a_folder_with_labels_and_masks_is_read_as_asked(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    rows = [f"images/{stem}.jpg,{label}" for stem, label in zip(STEMS, "xxyy", strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows]))
    labelled = load(tmp_path)[0]
    masked = load(tmp_path, task="segmentation")[0]
    assert (labelled.task, labelled.mask_reader) == ("binary", None)
    assert (masked.task, masked.names) == ("segmentation", labelled.names)
    assert masked.fingerprint != labelled.fingerprint


def test_class_folders_beside_masks_come_first(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    for split in ("train", "val"):
        for i, name in enumerate(("x", "y")):
            photo(tmp_path / split / name / "0.jpg", 50 + i + 10 * len(split))
    assert load(tmp_path)[0].task == "binary"
    assert load(tmp_path, task="segmentation")[0].task == "segmentation"


def test_masks_of_data_that_has_none_are_refused_with_the_layouts(tmp_path: Path) -> None:
    for name in ("x", "y"):
        photo(tmp_path / name / "0.jpg", 0)
    message = refusal(tmp_path, task="segmentation")
    assert message.startswith(f"no masks found in '{tmp_path}'. Masks stand in DIR/images with DIR/masks, ")
    assert "trainannot" in message
    assert "SegmentationClass" in message
    message = refusal("digits", task="segmentation")
    assert "task 'segmentation' needs masks, but this data has labels only. Masks stand in" in message


def test_labels_of_data_that_has_masks_only_are_refused_with_the_layouts(tmp_path: Path) -> None:
    message = refusal(pairs(tmp_path, STEMS), task="multiclass")
    assert message.startswith("task 'multiclass' needs a label for each image, but this data has masks.")
    assert "DIR/class/*.jpg" in message
    assert "Did you mean 'segmentation'?" in refusal(tmp_path, task="segmentatoin")


def test_empty_folders_of_images_and_masks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    assert f"no images with masks found in '{tmp_path}'" in refusal(tmp_path)


# --- the fingerprint ----------------------------------------------------------------------------------------------


def test_the_fingerprint_tells_masks_classes_and_their_meaning_apart(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    prints = [load(tmp_path)[0].fingerprint]
    mask(tmp_path / "masks" / "a.png", (0, 2, 1))
    prints.append(load(tmp_path)[0].fingerprint)
    for lines in ("x\ny\nz\n", "x\ny\nw\n", "void\nx\ny\nz\n", "x\nvoid\ny\nz\n"):
        (tmp_path / "classes.txt").write_text(lines)
        prints.append(load(tmp_path)[0].fingerprint)
    assert len(set(prints)) == len(prints)
    assert load(tmp_path, seed=9)[0].fingerprint == prints[-1]
    assert np.unique(load(tmp_path)[1].mask(1)).tolist() == [0, 1, 255]
