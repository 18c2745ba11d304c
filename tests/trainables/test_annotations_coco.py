"""COCO's json, read without a conversion. RLE and areas are as pycocotools 2.0.11 writes and draws them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_masks import HEIGHT, WIDTH, load, photo, refusal
from PIL import Image

from trainables.data.tools.fill import fill_rings
from trainables.data.tools.runs import bits_of_counts, counts_of_bits, counts_of_text

SQUARE = [3.0, 2.0, 12.0, 2.0, 12.0, 9.0, 3.0, 9.0]
HOLE = [5.0, 4.0, 8.0, 4.0, 8.0, 6.0, 5.0, 6.0]
# pycocotools.mask.encode of the square with the hole, and of one more pixel, at row 12 and column 19.
OF_PYCOCOTOOLS = "b17900KI17OI17OI174000000j3JPL"


def square(hole: bool = True) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:9, 3:12] = 1
    if hole:
        mask[4:6, 5:8] = 0
    return mask


def coco(*areas: Any, num_images: int = 6, **changes: Any) -> dict[str, Any]:
    """A document in COCO's format: each image has all the areas, each of category 7, which is 'cat'."""
    images = [{"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(num_images)]
    annotations = [
        {"id": 100 * i + n, "image_id": i, "category_id": 7, "segmentation": area, "bbox": [1, 2, 3, 4], "iscrowd": 0}
        for i in range(num_images)
        for n, area in enumerate(areas)
    ]
    categories = [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories, **changes}


def write(
    root: Path, document: dict[str, Any], file: str = "annotations/instances.json", images: str = "images"
) -> Path:
    for i in range(len(document["images"])):
        photo(root / images / f"{i}.jpg", zlib.crc32(f"{images}{i}".encode()))
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def test_polygons_become_masks_with_the_classes_in_the_order_of_their_ids(tmp_path: Path) -> None:
    write(tmp_path, coco([SQUARE]))
    dataset, images = load(tmp_path)
    assert dataset.task == "segmentation"
    assert dataset.classes == ("background", "cat", "dog")
    assert dataset.names == tuple(f"images/{i}.jpg" for i in range(6))
    assert (images.mask(3) == square(hole=False)).all()
    assert dataset.notes[0] == "Annotations of COCO are read."


def test_a_ring_inside_another_is_a_hole_and_parts_that_overlap_are_one_area(tmp_path: Path) -> None:
    across = [0.0, 5.0, 5.0, 5.0, 5.0, 12.0, 0.0, 12.0]  # overlaps the square's left side
    write(tmp_path, coco([HOLE, SQUARE, across]))
    _, images = load(tmp_path)
    wanted = square()
    wanted[5:12, 0:5] = 1
    assert (images.mask(0) == wanted).all()


def test_rle_is_read_as_text_and_as_counts(tmp_path: Path) -> None:
    wanted = square()
    wanted[12, 19] = 1
    counts = counts_of_bits(wanted > 0, by_column=True)
    for number, stored in enumerate((OF_PYCOCOTOOLS, counts)):
        root = tmp_path / str(number)
        write(root, coco({"size": [HEIGHT, WIDTH], "counts": stored}))
        assert (load(root)[1].mask(5) == wanted).all()


def test_rle_with_many_runs_is_that_of_pycocotools() -> None:
    noise = np.random.default_rng(0).random((16, 20)) > 0.7
    text = "4140M00000;0E052N01OMO4110J00O0000001041KO10O02021L1001NO17ON1KO010O10O020N00050K041NO10N0O0113OM0O00142MM11O01O30L12ON022NNO10O032NNO1000O70J5OM0N5"
    assert (bits_of_counts(counts_of_text(text), 16, 20, by_column=True) == noise).all()


@pytest.mark.parametrize(
    ("ring", "pixels"),
    [
        ([135.71, 70.96, 110.84, 73.21, 130.18, 83.21, 75.63, 105.0, 26.19, 54.87, 43.75, 41.28, 54.58, 40.44, 74.52, 27.67, 91.94, 41.56, 93.56, 39.12, 122.78, 43.88, 125.36, 50.4], 4774),
        ([119.3, 76.87, 113.11, 112.22, 65.19, 106.18, 43.3, 93.55, 49.85, 85.76, 38.02, 66.88, 44.93, 61.43, 43.95, 58.39, 81.16, 17.5, 98.02, 36.08, 122.26, 55.87, 136.57, 51.8], 5304),
        ([120.42, 84.6, 121.96, 97.34, 105.08, 104.54, 98.64, 115.31, 75.7, 128.87, 72.11, 119.87, 67.48, 109.83, 47.07, 56.42, 47.35, 46.25, 55.1, 32.12, 72.38, 13.78, 100.92, 21.01], 5507),
    ],
)  # fmt: skip
def test_a_polygon_has_as_many_pixels_as_pycocotools_gives_it_to_half_a_percent(ring: list[float], pixels: int) -> None:
    bits = fill_rings([ring], 140, 160)[2]
    assert abs(int(bits.sum()) - pixels) < 0.005 * pixels


def test_the_later_annotation_lies_on_top(tmp_path: Path) -> None:
    document = coco([SQUARE], [HOLE])
    for one in document["annotations"][1::2]:
        one["category_id"] = 9
    write(tmp_path, document)
    _, images = load(tmp_path)
    wanted = square(hole=False)
    wanted[4:6, 5:8] = 2
    assert (images.mask(0) == wanted).all()


def test_each_file_of_annotations_is_a_split(tmp_path: Path) -> None:
    for split, file in (("train2017", "instances_train2017.json"), ("val2017", "instances_val2017.json")):
        write(tmp_path, coco([SQUARE]), f"annotations/{file}", split)
        (tmp_path / "annotations" / file.replace("instances", "person_keypoints")).write_text(json.dumps(coco([HOLE])))
    dataset, images = load(tmp_path)
    assert dataset.split_origin == "given by the data"
    assert [dataset.names[i].split("/")[0] for i in dataset.indices("val")] == ["val2017"] * 6
    assert (images.mask(0) == square(hole=False)).all()
    assert any("'annotations/instances_val2017.json' is read of 2 files" in note for note in dataset.notes)


def test_an_export_of_roboflow_has_its_splits_and_no_class_for_the_project(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 7, "name": "cat", "supercategory": "pets"},
        {"id": 9, "name": "dog", "supercategory": "pets"},
    ]
    for split in ("train", "valid", "test"):
        write(tmp_path, coco([SQUARE], categories=categories), f"{split}/_annotations.coco.json", split)
    dataset, _ = load(tmp_path)
    assert dataset.classes == ("background", "cat", "dog")
    assert [len(dataset.indices(split)) for split in ("train", "val", "test")] == [6, 6, 6]
    assert "Category 'pets' only groups the others, and is no class." in dataset.notes


def test_images_without_annotations_are_background_and_images_of_no_file_are_left_out(tmp_path: Path) -> None:
    document = coco([SQUARE])
    document["annotations"] = document["annotations"][1:]
    write(tmp_path, document)
    photo(tmp_path / "images" / "nobody.jpg", 99)
    dataset, images = load(tmp_path)
    assert "images/0.jpg" in dataset.names
    assert not images.mask(0).any()
    assert "1 image without annotations, their pixels are background: 'images/0.jpg'." in dataset.notes
    assert "1 image left out, without annotations: 'images/nobody.jpg'." in dataset.notes


def test_boxes_alone_are_labels_and_no_masks(tmp_path: Path) -> None:
    document = coco([])
    for one in document["annotations"][:2]:
        one["category_id"] = 9
    write(tmp_path, document)
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("multilabel", ("cat", "dog"))
    assert dataset.targets.tolist() == [*[[0, 1]] * 2, *[[1, 0]] * 4]
    assert load(tmp_path, task="binary")[0].targets.tolist() == [1, 1, 0, 0, 0, 0]
    assert "needs polygons or masks" in refusal(tmp_path, task="segmentation")


def test_the_same_data_is_read_for_the_task_that_it_was_found_to_have(tmp_path: Path) -> None:
    """A resumed run names the task, and must find the fingerprint of the first session."""
    path = write(tmp_path, coco([SQUARE]))
    first = load(tmp_path)[0]
    assert load(tmp_path, task=first.task)[0].fingerprint == first.fingerprint
    assert load(path)[0].fingerprint == first.fingerprint
    write(tmp_path, coco([SQUARE, HOLE]))
    assert load(tmp_path)[0].fingerprint != first.fingerprint, "another area is other data"


def _set(*place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        inner: Any = document
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("images", 2, "file_name", value="lost.jpg"), "annotations/instances.json, image 'lost.jpg': image 'lost.jpg' does not exist in the data folder."),
        (_set("images", 2, "file_name", value="../../lost.jpg"), "image '../../lost.jpg' does not exist in the data folder, leads out of its folder."),
        (_set("images", 2, "file_name", value=5), "the image's name must be text, got 5"),
        (_set("images", 2, "height", value=None), "its width and height must be numbers of pixels, got 20, None"),
        (_set("annotations", 2, "segmentation", value=[[1, 2, 3, 4]]), "image '2.jpg': annotation 200: a polygon has 2 points, and an area has at least 3."),
        (_set("annotations", 2, "segmentation", value=[[1, 2, 3, 4, 5, 6, 7]]), "annotation 200: a polygon has 7 numbers, so an x has no y."),
        (_set("annotations", 2, "segmentation", value=[[1, 2, 3, 4, 5, float("nan")]]), "annotation 200: a polygon must be a list of numbers"),
        (_set("annotations", 2, "segmentation", value=[[1, 2, 3, 4, 5, 1e9]]), "annotation 200: a polygon has a point at 1e+09, and no image is so large."),
        (_set("annotations", 2, "segmentation", value="x"), "annotation 200: its segmentation must be polygons or RLE, got 'x'."),
        (_set("annotations", 2, "segmentation", value={"counts": "b17"}), "annotation 200: its RLE needs 'size', height and width, got None."),
        (_set("annotations", 2, "category_id", value=8), "annotation 200: its category 8 is not among the categories."),
        (_set("annotations", 2, "segmentation", value=None), "an annotation ('cat') is a box, and others are areas"),
    ],
)  # fmt: skip
def test_a_wrong_annotation_is_refused_by_its_place_or_its_image_is_left_out(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    document = coco([SQUARE])
    change(document)
    write(tmp_path, document)
    message = refusal(tmp_path)
    assert said in message
    assert message.endswith("Correct it, or pass --on-bad-image skip to leave out such images.")
    dataset, _ = load(tmp_path, on_bad_image="skip")
    assert dataset.names == tuple(f"images/{i}.jpg" for i in (0, 1, 3, 4, 5))
    assert any("1 image left out, with wrong annotations. The first: " in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("area", "said"),
    [
        ({"size": [9, 9], "counts": [81]}, "its RLE is of 9 x 9 px, and the image has 20 x 16"),
        ({"size": [16, 20], "counts": [81]}, "its RLE has 81 pixels, and 20 x 16 are 320"),
        ({"size": [16, 20], "counts": [-1, 321]}, "its RLE has a run of -1 pixels, and 20 x 16 are 320"),
        ({"size": [16, 20], "counts": [10**30]}, f"its RLE has a run of {10**30} pixels"),
        ({"size": [16, 20], "counts": "b1\x01"}, "its RLE holds '\\x01', which is no part of one"),
        ({"size": [16, 20], "counts": "b1o"}, "its RLE ends within a number"),
        ([[100, 100, 120, 100, 120, 120]], "it lies outside of the image (100, 100), which has 20 x 16 px"),
    ],
)
def test_an_area_that_cannot_be_drawn_is_refused_before_anything_is_trained(
    tmp_path: Path, area: Any, said: str
) -> None:
    document = coco([SQUARE])
    document["annotations"][4]["segmentation"] = area
    write(tmp_path, document)
    message = refusal(tmp_path)
    assert f"mask 'annotations/instances.json' of image 'images/4.jpg', annotation 1 ('cat'): {said}" in message
    assert len(load(tmp_path, on_bad_image="skip")[0].indices("skipped")) == 1


def test_a_size_that_no_image_has_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    document = coco([SQUARE])
    document["images"][1] |= {"height": 2**20, "width": 2**20}
    write(tmp_path, document)
    assert "of image 'images/1.jpg' has 1048576 x 1048576 px: too many" in refusal(tmp_path)


def test_an_image_of_another_size_than_stated_is_refused(tmp_path: Path) -> None:
    write(tmp_path, coco([SQUARE]))
    photo(tmp_path / "images" / "1.jpg", 1, (30, 12))
    assert "mask 'annotations/instances.json' is 20 x 16 px, and its image 'images/1.jpg' 30 x 12 px" in refusal(
        tmp_path
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("categories", value=[{"id": 7, "name": "cat"}, {"id": 8, "name": "cat"}]), "category 8 ('cat') stands there twice"),
        (_set("categories", 0, "name", value="do\ng"), "the class 'do\\ng' has a character in its name that no line of text can hold"),
        (_set("categories", 0, "name", value=None), "category 9 must have a number and a name, got None"),
        (_set("annotations", 0, "image_id", value=99), "annotation 0 is of image 99, which is not listed"),
        (_set("images", 0, "id", value=1), "each image needs an id of its own"),
        (_set("annotations", value={}), "must have a list of objects called 'annotations', got a dict"),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    document = coco([SQUARE])
    change(document)
    write(tmp_path, document)
    for option in ("error", "skip"):
        assert f"{said}. " in refusal(tmp_path, on_bad_image=option)


def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path, coco([SQUARE]))
    path.write_text(path.read_text()[:-20])
    assert "instances.json: is damaged (" in refusal(tmp_path)


def test_an_image_outside_of_the_data_folder_is_never_read(tmp_path: Path) -> None:
    photo(tmp_path / "secret.jpg", 5)
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "file:///secret.jpg"):
        document = coco([SQUARE])
        document["images"][0]["file_name"] = name
        write(tmp_path / "data", document)
        assert "does not exist in the data folder" in refusal(tmp_path / "data")


def test_masks_that_somebody_made_count_before_annotations(tmp_path: Path) -> None:
    write(tmp_path, coco([SQUARE]), "instances.json")
    (tmp_path / "masks").mkdir()
    for i in range(6):
        Image.fromarray(square()).save(tmp_path / "masks" / f"{i}.png")
    dataset, images = load(tmp_path)
    assert (images.mask(0) == square()).all()
    assert f"The masks are read, and not the annotations of COCO: --data {tmp_path}/instances.json reads those." in (
        dataset.notes
    )
    assert (load(tmp_path / "instances.json")[1].mask(0) == square(hole=False)).all()
