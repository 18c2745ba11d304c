"""YOLO's label files, written to the documented format: class, then fractions of width and height."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from drawn_masks import HEIGHT, WIDTH, load, photo, refusal

# 3, 2 to 12, 9 px of 20 x 16
SQUARE = "0.15 0.125 0.6 0.125 0.6 0.5625 0.15 0.5625"
NAMES = "names:\n  0: cat\n  1: dog\n"


def write(root: Path, folder: str, *lines: str, num_images: int = 4) -> None:
    """folder: of the images, with 'images' in it. Each image has these lines."""
    for i in range(num_images):
        image = photo(root / folder / f"{i}.jpg", zlib.crc32(f"{folder}{i}".encode()))
        labels = root / folder.replace("images", "labels") / f"{image.stem}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("".join(f"{line}\n" for line in lines))


def square(value: int = 1) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:9, 3:12] = value
    return mask


@pytest.mark.parametrize(
    ("train", "val"),
    [("images/train", "images/val"), ("train/images", "valid/images"), ("images/train2017", "images/val2017")],
)
def test_polygons_become_masks_with_the_splits_of_the_folders(tmp_path: Path, train: str, val: str) -> None:
    for folder in (train, val):
        write(tmp_path, folder, f"1 {SQUARE}")
    (tmp_path / "data.yaml").write_text(
        f"path: ../datasets/pets\ntrain: ../{train}\nval: ../{val}\nnc: 2\nnames: ['cat', 'dog']\n"
    )
    for spec in (tmp_path, tmp_path / "data.yaml"):
        dataset, images = load(spec)
        assert dataset.classes == ("background", "cat", "dog")
        assert dataset.split_origin == "given by the data"
        assert {dataset.names[i].rpartition("/")[0] for i in dataset.indices("val")} == {val}
        assert (images.mask(0) == square(2)).all()


def test_lists_of_images_give_the_splits(tmp_path: Path) -> None:
    write(tmp_path, "images", f"0 {SQUARE}", num_images=6)
    (tmp_path / "data.yaml").write_text(f"train: train.txt\nval: val.txt\n{NAMES}")
    (tmp_path / "train.txt").write_text("".join(f"./images/{i}.jpg\n" for i in range(4)))
    (tmp_path / "val.txt").write_text("./images/4.jpg\n./images/5.jpg\n")
    assert load(tmp_path)[0].indices("val").tolist() == [4, 5]


def test_without_names_classes_are_called_by_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, "images", f"0 {SQUARE}", "2 0 0 0.1 0 0.1 0.1")
    dataset, _ = load(tmp_path)
    assert dataset.classes == ("background", "class 0", "class 1", "class 2")
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\nant\n")
    assert load(tmp_path)[0].classes == ("background", "cat", "dog", "ant")


def test_an_image_without_a_file_is_background_if_others_have_theirs(tmp_path: Path) -> None:
    write(tmp_path, "images/train", f"0 {SQUARE}")
    write(tmp_path, "images/val", f"0 {SQUARE}")
    photo(tmp_path / "images" / "train" / "none.jpg", 50)
    photo(tmp_path / "images" / "test" / "new.jpg", 51)
    (tmp_path / "data.yaml").write_text(NAMES)
    dataset, images = load(tmp_path)
    assert not images.mask(dataset.names.index("images/train/none.jpg")).any()
    assert "1 image without annotations, their pixels are background: 'images/train/none.jpg'." in dataset.notes
    assert "1 image left out, as nobody has annotated them: 'images/test/new.jpg'." in dataset.notes


def test_boxes_alone_are_labels(tmp_path: Path) -> None:
    write(tmp_path, "images", "0 0.5 0.5 0.2 0.2", "1 0.5 0.5 0.2 0.2")
    (tmp_path / "data.yaml").write_text(NAMES)
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("multilabel", ("cat", "dog"))
    assert dataset.targets.all()
    assert "needs polygons or masks" in refusal(tmp_path, task="segmentation")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.1 0.2 0.3 0.4 0.5", "line 2: a polygon has 5 numbers, so an x has no y"),
        ("0 0.1 0.2", "line 2: a polygon has 1 points, and an area has at least 3"),
        ("2 " + SQUARE, "line 2: 2 is no number of a class, and there are 2"),
        ("0.5 " + SQUARE, "line 2: 0.5 is no number of a class, and there are 2"),
        ("0 3 2 12 2 12 9", "line 2: 3 is no fraction of the image's width or height, from 0 to 1"),
        ("0 nan 0.2 0.2 0.2 0.9 0.9", "line 2: nan is no fraction"),
        ("cat " + SQUARE, "line 2 must be a class's number and coordinates, got 'cat 0.15"),
        ("0 0.5 0.5 0.2 0.2", "image 'images/odd.jpg': an annotation ('cat') is a box, and others are areas"),
    ],
)
def test_a_wrong_line_is_refused_by_its_place_or_its_image_is_left_out(tmp_path: Path, line: str, said: str) -> None:
    write(tmp_path, "images", f"0 {SQUARE}")
    photo(tmp_path / "images" / "odd.jpg", 60)
    (tmp_path / "labels" / "odd.txt").write_text(f"0 {SQUARE}\n{line}\n")
    (tmp_path / "data.yaml").write_text(NAMES)
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}/labels/odd.txt")
    assert said in message
    assert len(load(tmp_path, on_bad_image="skip")[0].names) == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("names: [cat, cat]\n", "data.yaml: names a class twice, or not at all ('cat', 'cat')"),
        ("names: 5\n", "data.yaml: must name the classes by their numbers, got 5"),
        ("- cat\n", "data.yaml: must have lines 'key: value', got a list"),
        (f"train: lost.txt\n{NAMES}", "lost.txt', which does not exist"),
        ("names: [\n", "data.yaml: is not valid YAML"),
    ],
)
def test_a_wrong_data_yaml_is_refused(tmp_path: Path, content: str, said: str) -> None:
    write(tmp_path, "images", f"0 {SQUARE}")
    (tmp_path / "data.yaml").write_text(content)
    assert said in refusal(tmp_path)


def test_a_data_yaml_without_its_data_says_so(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(f"path: /home/somebody/pets\ntrain: images\n{NAMES}")
    assert refusal(tmp_path / "data.yaml").endswith(
        "its folder has no label files of YOLO. Name the folder of the data."
    )


def test_label_files_without_an_image_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "images", f"0 {SQUARE}")
    (tmp_path / "labels" / "gone.txt").write_text(f"0 {SQUARE}\n")
    (tmp_path / "data.yaml").write_text(NAMES)
    assert "1 label file left out, without an image: 'labels/gone.txt'." in load(tmp_path)[0].notes


def test_label_files_of_no_image_at_all_are_refused(tmp_path: Path) -> None:
    photo(tmp_path / "train" / "0.jpg", 1)
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "0.txt").write_text(f"0 {SQUARE}\n")
    assert "train/labels/0.txt: no label file has an image: this one's would be 'train/images/0.jpg'." in refusal(
        tmp_path
    )


def test_the_folders_of_yolo_classification_are_read_as_folders_of_classes(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            for i in range(3):
                photo(tmp_path / split / name / f"{i}.jpg", zlib.crc32(f"{split}{name}{i}".encode()))
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("binary", ("cat", "dog"))
    assert [len(dataset.indices(split)) for split in ("train", "val", "test")] == [6, 6, 6]
