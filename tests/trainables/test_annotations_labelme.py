"""labelme's json, with the keys and shapes that labelme 6.3.1 writes."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_masks import HEIGHT, WIDTH, load, photo, refusal
from PIL import Image

SQUARE = [[3, 2], [12, 2], [12, 9], [3, 9]]


def shape(label: str = "cat", kind: str = "polygon", points: Any = SQUARE, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {}, "mask": None, **more}  # fmt: skip


def write(root: Path, *shapes: Any, stem: str = "0", folder: str = "", **changes: Any) -> Path:
    """An image and labelme's file beside it."""
    photo(root / folder / f"{stem}.jpg", zlib.crc32(f"{folder}{stem}".encode()))
    path = root / folder / f"{stem}.json"
    path.write_text(
        json.dumps(
            {
                "version": "6.3.1", "flags": {}, "shapes": list(shapes), "imagePath": f"{stem}.jpg", "imageData": None,
                "imageHeight": HEIGHT, "imageWidth": WIDTH, **changes,
            }
        )
    )  # fmt: skip
    return path


def several(root: Path, *shapes: Any, **changes: Any) -> None:
    for i in range(6):
        write(root, *shapes, stem=str(i), **changes)


def test_polygons_become_masks_and_the_later_one_lies_on_top(tmp_path: Path) -> None:
    several(tmp_path, shape("dog"), shape("ant", points=[[5, 4], [8, 4], [8, 6], [5, 6]]))
    dataset, images = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("segmentation", ("background", "ant", "dog"))
    wanted = np.zeros((HEIGHT, WIDTH))
    wanted[2:9, 3:12] = 2
    wanted[4:6, 5:8] = 1
    assert (images.mask(0) == wanted).all()
    assert dataset.notes == ("Annotations of labelme are read.",)


def test_rectangles_circles_and_masks_are_areas_and_lines_are_counted(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.array([[True, False], [True, True]])).save(picture, "PNG")
    several(
        tmp_path,
        shape(kind="rectangle", points=[[12, 9], [3, 2]]),
        shape("ant", "circle", [[15, 12], [15, 14]]),
        shape("bee", "mask", [[0, 14], [1, 15]], mask=base64.b64encode(picture.getvalue()).decode()),
        shape("bee", "line", [[0, 0], [1, 1]]),
        shape("bee", "point", [[0, 0]]),
    )
    dataset, images = load(tmp_path)
    mask = images.mask(0)
    assert (mask[2:9, 3:12] == 3).all()
    assert (mask == 3).sum() == 63
    assert abs((mask == 1).sum() - 4 * np.pi) < 2
    assert dataset.classes == ("background", "ant", "bee", "cat")
    assert mask[14:, :2].tolist() == [[2, 0], [2, 2]]
    assert "12 shapes left out, as they have no area: line (6), point (6)." in dataset.notes


def test_the_list_of_labels_gives_the_order_and_labelmes_own_names_are_no_classes(tmp_path: Path) -> None:
    several(tmp_path, shape("dog"), shape("_background_", points=[[5, 4], [8, 4], [8, 6], [5, 6]]), shape("__ignore__", points=[[0, 12], [20, 12], [20, 16], [0, 16]]))  # fmt: skip
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nzebra\ndog\n")
    dataset, images = load(tmp_path)
    assert dataset.classes == ("background", "zebra", "dog")
    mask = images.mask(0)
    assert (mask[4:6, 5:8] == 0).all()
    assert (mask[2:4, 3:12] == 2).all()
    assert (mask[12:] == 255).all()
    assert "What is called '__ignore__' is taken as void." in dataset.notes


def test_files_may_stand_in_splits_and_name_their_images_as_windows_does(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for i in range(3):
            write(tmp_path, shape(), stem=f"{split}{i}", folder=split, imagePath=f"..\\{split}\\{split}{i}.jpg")
    dataset, _ = load(tmp_path)
    assert dataset.split_origin == "given by the data"
    assert len(dataset.indices("val")) == 3


def test_images_without_a_file_are_left_out_and_counted(tmp_path: Path) -> None:
    several(tmp_path, shape())
    photo(tmp_path / "new.jpg", 77)
    write(tmp_path, stem="empty")
    dataset, images = load(tmp_path)
    assert "1 image left out, as nobody has annotated them: 'new.jpg'." in dataset.notes
    assert not images.mask(dataset.names.index("empty.jpg")).any(), "saved without shapes, it shows background"


def test_flags_are_the_labels_of_an_image(tmp_path: Path) -> None:
    for i in range(8):
        write(tmp_path, stem=str(i), flags={"cat": i % 2 == 0, "dog": i % 2 == 1})
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("binary", ("cat", "dog"))
    assert dataset.targets.tolist() == [0, 1] * 4
    assert load(tmp_path, task="multilabel")[0].targets.tolist() == [[1, 0], [0, 1]] * 4


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (shape(points=[[1, 2], [3, 4]]), "shape 1: a polygon has 2 points, and an area has at least 3"),
        (shape(points=[[1, 2], [3]]), "shape 1: 'cat' must have points [x, y], got a list"),
        (shape(label=""), "shape 1: its label must be a name, got ''"),
        (shape(kind="circle"), "shape 1: 'cat' is a circle of 4 points, and needs 2"),
        (shape(kind="cube"), "shape 1: 'cat' is a 'cube', which is no shape of labelme"),
        (shape(kind="mask", points=[[1, 2], [3, 4]]), "shape 1: 'cat' is a mask without its picture, got None"),
    ],
)
def test_a_wrong_shape_is_refused_by_its_place_or_its_image_is_left_out(
    tmp_path: Path, one: dict[str, Any], said: str
) -> None:
    several(tmp_path, shape())
    write(tmp_path, one, stem="odd")
    assert refusal(tmp_path) == (
        f"{tmp_path}/odd.json: {said}. Correct it, or pass --on-bad-image skip to leave out such images."
    )
    assert len(load(tmp_path, on_bad_image="skip")[0].names) == 6


def test_a_picture_that_leaves_the_image_or_is_none_is_refused(tmp_path: Path) -> None:
    several(tmp_path, shape())
    for content, points, said in (
        ("AAAA", [[0, 0], [1, 1]], "annotation 1 ('cat'): its mask cannot be read"),
        (base64.b64encode(_png(np.ones((4, 4), bool))).decode(), [[18, 0], [21, 3]], "its mask of 4 x 4 px at (18, 0) leaves the image of 20 x 16"),
    ):  # fmt: skip
        write(tmp_path, shape(kind="mask", points=points, mask=content), stem="odd")
        assert said in refusal(tmp_path)


def _png(bits: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(bits).save(file, "PNG")
    return file.getvalue()


def test_a_file_whose_image_is_missing_or_of_another_size_is_refused(tmp_path: Path) -> None:
    several(tmp_path, shape())
    path = write(tmp_path, shape(), stem="odd", imagePath="gone.jpg")
    assert "odd.json: image 'gone.jpg' does not exist in the data folder." in refusal(tmp_path)
    path.unlink()
    write(tmp_path, shape(), stem="odd", imageHeight=99)
    assert "mask 'odd.json' is 20 x 99 px, and its image 'odd.jpg' 20 x 16 px" in refusal(tmp_path)


def test_two_files_for_one_image_are_refused(tmp_path: Path) -> None:
    several(tmp_path, shape())
    write(tmp_path, shape(), stem="copy", imagePath="0.jpg")
    assert "copy.json: image '0.jpg' has annotations in 0.json too" in refusal(tmp_path)


def test_files_in_folders_of_classes_leave_the_folders_their_classes(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        for i in range(4):
            write(tmp_path, shape(), stem=f"{name}{i}", folder=name)
    assert load(tmp_path)[0].classes == ("cats", "dogs")
