"""Label Studio's export "JSON". The brush's bytes are what label-studio-sdk 2.1.2 packs (converter/brush.py)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_masks import HEIGHT, WIDTH, load, photo, refusal

# encode_rle of the square with a hole, and of one more pixel, as RGBA.
BRUSH = [
    0, 0, 5, 0, 57, 27, 254, 171, 0, 196, 127, 248, 172, 3, 17, 255, 226, 176, 9, 255, 237, 128, 95, 255, 197, 96, 19,
    255, 219, 0, 191, 255, 138, 192, 49, 31, 254, 43, 0, 196, 127, 248, 172, 3, 17, 255, 240, 21, 176, 8, 255, 247,
    120, 0,
]  # fmt: skip


def region(kind: str, value: dict[str, Any], label: str = "cat", **more: Any) -> dict[str, Any]:
    named = {kind: [label], **value}
    return {"id": "a", "from_name": "tag", "to_name": "img", "type": kind, "value": named, "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, **more}  # fmt: skip


POLYGON = region("polygonlabels", {"points": [[15, 12.5], [60, 12.5], [60, 56.25], [15, 56.25]], "closed": True})
CHOICE = {"id": "b", "from_name": "kind", "to_name": "img", "type": "choices", "value": {"choices": ["cat"]}}


def task(number: int, *regions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    name = f"{number:08x}-{number}.png"
    annotations = [{"id": number, "was_cancelled": False, "ground_truth": False, "updated_at": "2026-01-02T00:00:00Z", "result": list(regions)}]  # fmt: skip
    return {"id": number, "file_upload": name, "data": {"image": f"/data/upload/3/{name}"}, "annotations": annotations, **changes}  # fmt: skip


def write(root: Path, tasks: list[dict[str, Any]]) -> Path:
    for one in tasks:
        photo(root / "images" / f"{one['id']}.png", zlib.crc32(str(one["id"]).encode()))
    path = root / "project-1-at-2026-01-02.json"
    path.write_text(json.dumps(tasks))
    return path


def square() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:9, 3:12] = 1
    return mask


def test_polygons_in_percents_become_masks(tmp_path: Path) -> None:
    path = write(tmp_path, [task(i, POLYGON) for i in range(6)])
    dataset, images = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("segmentation", ("background", "cat"))
    assert (images.mask(0) == square()).all()
    assert dataset.names[0] == "images/0.png", "without what Label Studio put before it"
    assert load(path)[0].fingerprint == dataset.fingerprint


def test_a_brush_is_unpacked(tmp_path: Path) -> None:
    write(tmp_path, [task(i, region("brushlabels", {"format": "rle", "rle": BRUSH})) for i in range(6)])
    wanted = square()
    wanted[4:6, 5:8] = 0
    wanted[12, 19] = 1
    assert (load(tmp_path)[1].mask(0) == wanted).all()


def test_rectangles_turn_around_their_upper_left_corner_and_ellipses_around_their_centre(tmp_path: Path) -> None:
    box = region(
        "rectanglelabels", {"x": 50, "y": 25, "width": 20, "height": 12.5, "rotation": 90}
    )  # at (10, 4), 4 x 2 px
    oval = region("ellipselabels", {"x": 80, "y": 75, "radiusX": 15, "radiusY": 6.25, "rotation": 0}, "dog")
    point = region("keypointlabels", {"x": 1, "y": 1, "width": 0.3})
    write(tmp_path, [task(i, box, oval, point) for i in range(6)])
    dataset, images = load(tmp_path)
    mask = images.mask(0)
    assert np.argwhere(mask == 1).tolist() == [[y, x] for y in range(4, 8) for x in (8, 9)]
    assert (mask == 2).any(axis=0).sum() == 6
    assert "6 boxes taken as areas." in dataset.notes
    assert "6 shapes left out, as they have no area: keypointlabels (6)." in dataset.notes


def test_choices_are_the_labels_of_images(tmp_path: Path) -> None:
    dog = {**CHOICE, "value": {"choices": ["dog"]}}
    write(tmp_path, [task(i, CHOICE if i % 2 else dog) for i in range(8)])
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("binary", ("cat", "dog"))
    assert dataset.targets.tolist() == [1, 0] * 4
    write(tmp_path, [task(i, {**CHOICE, "value": {"choices": ["cat", "dog"][: 1 + i % 2]}}) for i in range(8)])
    assert load(tmp_path)[0].task == "multilabel"


def test_the_latest_annotation_counts_and_what_nobody_finished_is_left_out(tmp_path: Path) -> None:
    tasks = [task(i, POLYGON) for i in range(8)]
    older = {"id": 90, "updated_at": "2025-01-01T00:00:00Z", "result": []}
    newer = {"id": 91, "updated_at": "2027-01-01T00:00:00Z", "was_cancelled": True, "result": []}
    tasks[0]["annotations"] = [newer, *tasks[0]["annotations"], older]
    tasks[1]["annotations"] = []
    tasks[2]["annotations"][0]["result"] = []
    write(tmp_path, tasks)
    dataset, images = load(tmp_path)
    assert (images.mask(0) == square()).all()
    assert "images/1.png" not in dataset.names
    assert not images.mask(dataset.names.index("images/2.png")).any(), "finished without a region, it shows background"
    assert "1 image left out, as nobody has annotated them: 'images/1.png'." in dataset.notes
    assert "1 task with several annotations: the latest of each is read." in dataset.notes


@pytest.mark.parametrize(
    "address", ["/data/local-files/?d=images/0.png", "s3://bucket/a/0.png", "https://a.b/c/0.png?x=1", "images%2F0.png"]
)
def test_addresses_are_found_by_their_path_in_the_data_folder(tmp_path: Path, address: str) -> None:
    tasks = [task(i, POLYGON) for i in range(6)]
    tasks[0]["data"] = {"id": "7", "photo": address}
    write(tmp_path, tasks)
    assert "images/0.png" in load(tmp_path)[0].names


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (region("polygonlabels", {"points": [[1, 2], [3, 4]]}), "region 1 (polygonlabels): a polygon has 2 points, and an area has at least 3"),
        (region("polygonlabels", {"points": [[1, "x"]]}), "region 1 (polygonlabels): its points must be pairs of numbers, got a list"),
        (region("polygonlabels", {"points": [], "polygonlabels": ["a", "b"]}), "region 1 (polygonlabels): a region must have one label, got 'a', 'b'"),
        (region("brushlabels", {"rle": [1, 999]}), "region 1 (brushlabels): its RLE must be a list of bytes, got a list"),
        (region("brushlabels", {"imageDataURL": "data:"}), "region 1 (brushlabels): its area is stored in a way that is not read"),
        (region("polygonlabels", {"points": [[1, 2]]}, original_width=None), "its original_height and original_width must be pixels, got 16, None"),
        (region("polygonlabels", {"points": [[1, 2]]}, image_rotation=90), "the image was turned while it was annotated"),
    ],
)  # fmt: skip
def test_a_wrong_region_is_refused_by_its_task_or_its_image_is_left_out(
    tmp_path: Path, one: dict[str, Any], said: str
) -> None:
    write(tmp_path, [*(task(i, POLYGON) for i in range(6)), task(77, one)])
    message = refusal(tmp_path)
    assert "project-1-at-2026-01-02.json, task 77: " in message
    assert said in message
    assert len(load(tmp_path, on_bad_image="skip")[0].names) == 6


@pytest.mark.parametrize(
    ("packed", "said"),
    [(BRUSH[:20], "its RLE is damaged (it ends too early)"), ([0, 0, 0, 4, *BRUSH[4:]], "its RLE has 1 pixels, and 20 x 16 are 320")],
)  # fmt: skip
def test_a_brush_that_is_damaged_or_of_another_size_is_refused(tmp_path: Path, packed: list[int], said: str) -> None:
    write(tmp_path, [task(i, region("brushlabels", {"rle": packed})) for i in range(6)])
    assert said in refusal(tmp_path)


def test_a_task_without_an_image_and_the_small_export_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, [task(i, POLYGON, data={"text": "hello"}) for i in range(2)])
    assert "task 0: its data names no image, got 'hello'." in refusal(tmp_path)
    path.write_text(json.dumps([{"image": "/0.png", "id": 1, "annotation_id": 4, "annotator": 1, "choice": "cat"}]))
    assert (
        "is an export as 'JSON-MIN', which lacks what is needed. Export the project from Label Studio as 'JSON'."
        in refusal(tmp_path)
    )
