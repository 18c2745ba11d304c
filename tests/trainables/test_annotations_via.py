"""The json of VIA 2, as its projects and its exports hold it, and of VIA 1, whose regions are numbered."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_masks import HEIGHT, WIDTH, load, photo, refusal

SQUARE = {"name": "polygon", "all_points_x": [3, 12, 12, 3], "all_points_y": [2, 2, 9, 9]}


def region(shape: Any = SQUARE, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def write(
    root: Path, *regions: Any, num_images: int = 6, extra: Any = None, project: bool = False, **of_file: Any
) -> Path:
    rows = {}
    for i in range(num_images):
        photo(root / f"{i}.png", zlib.crc32(f"{i}".encode()))
        rows[f"{i}.png{i}"] = {"filename": f"{i}.png", "size": i, "regions": list(regions), "file_attributes": of_file}
    if extra:
        photo(root / extra["filename"], 77)
        rows["extra"] = extra
    path = root / "via_project.json"
    path.write_text(
        json.dumps({"_via_settings": {}, "_via_img_metadata": rows, "_via_attributes": {}} if project else rows)
    )
    return path


@pytest.mark.parametrize("project", [True, False])
def test_polygons_become_masks_with_the_values_of_the_attribute_as_classes(tmp_path: Path, project: bool) -> None:
    path = write(tmp_path, region(kind="cat"), project=project, caption="", public_domain="no", image_url="")
    dataset, images = load(tmp_path)
    wanted = np.zeros((HEIGHT, WIDTH))
    wanted[2:9, 3:12] = 1
    assert dataset.classes == ("background", "cat")
    assert (images.mask(0) == wanted).all()
    assert load(path)[0].fingerprint == dataset.fingerprint


def test_regions_that_are_numbered_and_without_attributes_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, region())
    document = json.loads(path.read_text())
    for row in document.values():
        row["regions"] = {"0": row["regions"][0]}
    path.write_text(json.dumps(document))
    dataset, _ = load(tmp_path)
    assert dataset.classes == ("background", "region")
    assert "No region has an attribute, so all areas are of one class, 'region'." in dataset.notes


def test_circles_ellipses_and_rectangles_are_areas_and_points_are_counted(tmp_path: Path) -> None:
    write(
        tmp_path,
        region({"name": "circle", "cx": 5, "cy": 5, "r": 2}, kind="ant"),
        region({"name": "ellipse", "cx": 14, "cy": 8, "rx": 4, "ry": 2, "theta": np.pi / 2}, kind="bee"),
        region({"name": "rect", "x": 0, "y": 12, "width": 5, "height": 2}, kind={"cat": True, "dog": False}),
        region({"name": "point", "cx": 1, "cy": 1}, kind="ant"),
    )
    dataset, images = load(tmp_path)
    mask = images.mask(0)
    assert dataset.classes == ("background", "ant", "bee", "cat")
    assert (mask[3:7, 4:6] == 1).all()
    assert (mask[:, 14] == 2).sum() == 8
    assert (mask == 3).sum() == 10
    assert "6 shapes left out, as they have no area: point (6)." in dataset.notes


def test_the_attribute_called_class_counts_of_several_and_others_are_refused(tmp_path: Path) -> None:
    write(tmp_path, region(**{"class": "cat", "colour": "red"}))
    dataset, _ = load(tmp_path)
    assert "The attribute 'class' names the classes of regions, not 'colour'." in dataset.notes
    write(tmp_path, region(shade="cat", colour="red"))
    assert refusal(tmp_path).endswith(
        "its regions have the attributes 'shade', 'colour', and one of them must name the classes. "
        "Call that one 'class', or remove the others."
    )


def test_attributes_of_files_are_the_labels_of_images(tmp_path: Path) -> None:
    path = write(tmp_path, num_images=8)
    document = json.loads(path.read_text())
    for number, row in enumerate(document.values()):
        row["file_attributes"] = {"caption": "a", "species": "cat" if number % 2 else "dog"}
    path.write_text(json.dumps(document))
    dataset, _ = load(tmp_path)
    assert (dataset.classes, dataset.targets.tolist()) == (("cat", "dog"), [1, 0] * 4)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (region({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, kind="cat"), "region 1: a polygon has 2 points, and an area has at least 3"),
        (region({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1]}, kind="cat"), "region 1: a polygon must have as many all_points_x as all_points_y"),
        (region({"name": "circle", "cx": 1, "cy": 1}, kind="cat"), "region 1: its 'r' must be a number, got None"),
        (region({"name": "cube"}, kind="cat"), "region 1: 'cube' is no shape of VIA"),
        (region(kind=""), "region 1: its attribute 'kind' must name one class, got none"),
        ("x", "region 1: it must be an object with shape_attributes and the name of a shape"),
    ],
)  # fmt: skip
def test_a_wrong_region_is_refused_by_its_image_or_the_image_is_left_out(tmp_path: Path, one: Any, said: str) -> None:
    write(
        tmp_path, region(kind="cat"), extra={"filename": "odd.png", "size": 1, "regions": [one], "file_attributes": {}}
    )
    assert f"via_project.json, image 'odd.png': {said}." in refusal(tmp_path)
    assert len(load(tmp_path, on_bad_image="skip")[0].names) == 6
