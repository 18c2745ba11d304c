"""Data in Pascal VOC's layout, which annotation tools write for classes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from drawn_masks import HEIGHT, UNNAMED, WIDTH, load, mask, photo, refusal, stripes
from PIL import Image

from trainables.data.dataset import VOID
from trainables.data.mask_classes import VOC_CLASSES

STEMS = tuple(f"{i:03d}" for i in range(6))
COLORS = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 255: (224, 224, 192)}  # as Pascal VOC, labelme and CVAT
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nscratch:128,0,0::\ndent:0,128,0::\n"
VOC_NOTE = "Pascal VOC's own 21 names are used. classes.txt names others."


def exported(
    root: Path,
    kind: str = "P",
    values: Sequence[int] | np.ndarray = (0, 1, 255, 2),
    lists: dict[str, Sequence[str]] | None = None,
    stems: Sequence[str] = STEMS,
    masks: str = "SegmentationClass",
) -> Path:
    """An export with masks of palette images, of colours, or of grey class numbers."""
    drawn = values if isinstance(values, np.ndarray) else stripes(values)
    palette = np.zeros((256, 3), np.uint8)
    for value, color in COLORS.items():
        palette[value] = color
    for i, stem in enumerate(stems):
        photo(root / "JPEGImages" / f"{stem}.jpg", i)
        path = mask(root / masks / f"{stem}.png", drawn)
        if kind == "RGB":
            Image.fromarray(palette[drawn]).save(path)
        elif kind == "P":
            with Image.open(path) as image:
                indexed = image.convert("P")
            indexed.putdata(drawn.ravel().tolist())
            indexed.putpalette(palette.ravel().tolist())
            indexed.save(path)
    lists = {"train": stems[:4], "val": stems[4:]} if lists is None else lists
    for name, listed in lists.items():
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in listed))
    return root


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["P", "L"])
@pytest.mark.parametrize("first", ["", "__ignore__\n"])
def test_class_names_txt_of_labelme_names_the_classes(tmp_path: Path, kind: str, first: str) -> None:
    (exported(tmp_path, kind) / "class_names.txt").write_text(f"{first}_background_\nscratch\ndent\n")
    dataset, images = load(tmp_path)
    assert dataset.classes == ("background", "scratch", "dent")
    assert (images.mask(0) == stripes((0, 1, VOID, 2))).all()
    assert dataset.notes[0] == "The classes are named by class_names.txt."


@pytest.mark.parametrize("kind", ["RGB", "P", "L"])
def test_labelmap_txt_of_cvat_names_the_classes_and_their_colours(tmp_path: Path, kind: str) -> None:
    (exported(tmp_path, kind) / "labelmap.txt").write_text(LABELMAP)
    dataset, images = load(tmp_path)
    assert dataset.classes == ("background", "scratch", "dent")
    assert (images.mask(0) == stripes((0, 1, VOID, 2))).all()
    assert "The classes are named by labelmap.txt." in dataset.notes


def test_a_labelmap_without_colours_names_the_numbers(tmp_path: Path) -> None:
    (exported(tmp_path, "P") / "labelmap.txt").write_text("background:::\nscratch:::\ndent:::\n")
    assert load(tmp_path)[0].classes == ("background", "scratch", "dent")


def test_both_files_may_be_there_in_either_order(tmp_path: Path) -> None:
    (exported(tmp_path, "RGB") / "labelmap.txt").write_text(LABELMAP)
    (tmp_path / "class_names.txt").write_text("_background_\ndent\nscratch\n")
    dataset, images = load(tmp_path)
    assert dataset.classes == ("background", "dent", "scratch")
    assert (images.mask(0) == stripes((0, 2, VOID, 1))).all(), "the colours belong to the names"


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    (exported(tmp_path) / "labelmap.txt").write_text(LABELMAP)
    (tmp_path / "class_names.txt").write_text("_background_\nscratch\nhole\n")
    message = refusal(tmp_path)
    assert (
        "labelmap.txt names 'background', 'scratch', 'dent', and class_names.txt 'background', 'scratch', 'hole'"
        in message
    )
    (tmp_path / "labelmap.txt").unlink()
    (tmp_path / "classes.txt").write_text("background\nscratch\ndent\n")
    assert "classes.txt names 'background', 'scratch', 'dent', and class_names.txt" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("background:0,0,0::\nscratch\nx:1,2::\n", "labelmap.txt, line 3: 'x:1,2::' is not 'name:R,G,B::'"),
        (
            "background:0,0,0::\nscratch:::\n",
            "labelmap.txt gives 1 of 2 names a colour. Give all of them one, or none.",
        ),
        ("a:0,0,0::\nb:0,0,0::\n", "labelmap.txt, line 2: colour (0, 0, 0) stands there twice."),
        ("a:0,0,0::\na:0,0,1::\n", "labelmap.txt names a class twice ('a', 'a')."),
    ],
)
def test_a_wrong_labelmap_is_refused_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    (exported(tmp_path) / "labelmap.txt").write_text(content)
    assert words in refusal(tmp_path)


@pytest.mark.parametrize("place", ["", "VOC2012"])
def test_names_may_stand_in_the_years_folder_or_beside_it(tmp_path: Path, place: str) -> None:
    exported(tmp_path / "VOC2012")
    (tmp_path / place / "class_names.txt").write_text("_background_\nscratch\ndent\n")
    assert load(tmp_path)[0].classes == ("background", "scratch", "dent")


def test_own_data_without_names_is_never_called_aeroplane(tmp_path: Path) -> None:
    dataset, _ = load(exported(tmp_path))
    assert dataset.classes == ("class 0", "class 1", "class 2")
    assert UNNAMED in dataset.notes


def test_own_data_with_gaps_and_without_names_stops(tmp_path: Path) -> None:
    assert "masks hold the values 0, 4, 9, which do not look like class numbers" in refusal(
        exported(tmp_path, "L", (0, 4, 9))
    )


def test_pascal_vocs_names_are_taken_where_nearly_all_of_them_are_there(tmp_path: Path) -> None:
    held = [value for value in range(21) if value not in (4, 16)] + [255]
    dataset, _ = load(exported(tmp_path, "L", np.resize(held, (HEIGHT, WIDTH))))
    assert dataset.classes == VOC_CLASSES
    assert VOC_NOTE in dataset.notes


def test_twenty_own_classes_beyond_vocs_are_not_called_by_its_names(tmp_path: Path) -> None:
    dataset, _ = load(exported(tmp_path, "L", np.resize(np.arange(23), (HEIGHT, WIDTH))))
    assert dataset.classes == tuple(f"class {i}" for i in range(23))


def test_a_sample_of_pascal_voc_is_known_by_the_names_of_its_images(tmp_path: Path) -> None:
    stems = [f"2008_00{i:04d}" for i in range(6)]
    dataset, _ = load(exported(tmp_path, "L", (0, 255, 15), stems=stems))
    assert dataset.classes == VOC_CLASSES
    assert VOC_NOTE in dataset.notes


# --- lists --------------------------------------------------------------------------------------------------------


def test_default_txt_names_all_images_and_the_split_is_drawn(tmp_path: Path) -> None:
    exported(tmp_path, "RGB", lists={"default": STEMS[:5]})
    (tmp_path / "labelmap.txt").write_text(LABELMAP)
    dataset, _ = load(tmp_path)
    assert dataset.split_origin == "stratified, 20% val, seed 0"
    assert len(dataset.names) == 5
    assert "'default.txt' names no split: it is drawn." in dataset.notes


def test_lists_of_cvat_may_be_called_by_any_name_of_a_split(tmp_path: Path) -> None:
    exported(tmp_path, lists={"Train": STEMS[:3], "Validation": STEMS[3:5], "Test": STEMS[5:]})
    (tmp_path / "class_names.txt").write_text("_background_\nscratch\ndent\n")
    assert load(tmp_path)[0].split.tolist() == ["train"] * 3 + ["val"] * 2 + ["test"]


def test_a_list_that_nothing_uses_is_named(tmp_path: Path) -> None:
    exported(tmp_path, lists={"train": STEMS[:4], "val": STEMS[4:], "train_aug": STEMS, "trainval": STEMS})
    assert "Lists that are not used: 'train_aug.txt'." in load(tmp_path)[0].notes


def test_lists_in_main_do_where_segmentation_has_none(tmp_path: Path) -> None:
    exported(tmp_path)
    (tmp_path / "ImageSets" / "Segmentation").rename(tmp_path / "ImageSets" / "Main")
    assert load(tmp_path)[0].split_origin == "given by the data"


def test_labelmes_export_has_no_lists(tmp_path: Path) -> None:
    exported(tmp_path, lists={}, masks="SegmentationClassPNG")
    photo(tmp_path / "JPEGImages" / "z.jpg", 70)
    (tmp_path / "SegmentationClass").mkdir()
    np.save(tmp_path / "SegmentationClass" / "000.npy", stripes((0, 1)))
    (tmp_path / "class_names.txt").write_text("_background_\nscratch\ndent\n")
    dataset, _ = load(tmp_path)
    assert len(dataset.names) == 6
    assert "No list names a split: all images with a mask are used." in dataset.notes
