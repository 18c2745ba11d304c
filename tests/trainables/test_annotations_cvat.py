"""CVAT's xml, written to its documented format "CVAT for images 1.1"."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from drawn_masks import HEIGHT, WIDTH, load, photo, refusal

POLYGON = '<polygon label="cat" source="manual" occluded="0" points="3.00,2.00;12.00,2.00;12.00,9.00;3.00,9.00" z_order="0"></polygon>'
# 4 wide, 3 high, at (5, 4): a ring around two pixels
MASK = '<mask label="dog" source="manual" occluded="0" rle="0, 5, 2, 5" left="5" top="4" width="4" height="3" z_order="0"></mask>'
HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><job><labels>
    <label><name>dog</name><color>#fff</color><type>any</type><attributes></attributes></label>
    <label><name>cat</name><color>#000</color><type>any</type><attributes></attributes></label>
  </labels></job></meta>
"""


def write(root: Path, *shapes: str, num_images: int = 6, extra: str = "", head: str = HEAD, subset: str = "") -> Path:
    images = []
    for i in range(num_images):
        photo(root / "images" / f"{i}.png", zlib.crc32(f"{i}".encode()))
        images.append(
            f'<image id="{i}" name="{i}.png"{subset} width="{WIDTH}" height="{HEIGHT}">{"".join(shapes)}</image>'
        )
    path = root / "annotations.xml"
    path.write_text(head + "\n".join([*images, extra, "</annotations>\n"]))
    return path


def test_polygons_and_masks_become_masks_with_the_classes_of_the_task(tmp_path: Path) -> None:
    path = write(tmp_path, POLYGON, MASK)
    dataset, images = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("segmentation", ("background", "dog", "cat"))
    wanted = np.zeros((HEIGHT, WIDTH))
    wanted[2:9, 3:12] = 2
    wanted[4:7, 5:9] = 1
    wanted[5, 6:8] = 2
    assert (images.mask(0) == wanted).all()
    assert load(path)[0].fingerprint == dataset.fingerprint


def test_what_lies_higher_in_cvat_lies_higher_in_the_mask(tmp_path: Path) -> None:
    write(tmp_path, POLYGON.replace('z_order="0"', 'z_order="2"'), MASK)
    assert load(tmp_path)[1].mask(0)[4, 5] == 2


def test_ellipses_and_turned_boxes_are_areas_and_lines_are_counted(tmp_path: Path) -> None:
    write(
        tmp_path,
        '<ellipse label="cat" cx="5" cy="5" rx="4" ry="2" rotation="90"/>',
        '<box label="dog" xtl="10" ytl="10" xbr="18" ybr="12" rotation="90"/>',
        '<polyline label="dog" points="1,1;2,2"/>',
    )
    dataset, images = load(tmp_path)
    mask = images.mask(0)
    assert (mask[:, 5] == 2).sum() == 8, "turned, it is twice as high as wide"
    assert np.argwhere(mask == 1).tolist() == [[y, x] for y in range(7, 15) for x in (13, 14)]
    assert "6 boxes taken as areas." in dataset.notes
    assert "6 shapes left out, as they have no area: polyline (6)." in dataset.notes


def test_tags_are_the_labels_of_images(tmp_path: Path) -> None:
    write(tmp_path, '<tag label="cat" source="manual"></tag>', extra=_images(6, '<tag label="dog"/>'))
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("binary", ("dog", "cat"))
    assert dataset.targets.sum() == 6


def _images(count: int, inside: str, subset: str = "", root: str = "") -> str:
    return "".join(
        f'<image id="{i}" name="{root}x{i}.png"{subset} width="{WIDTH}" height="{HEIGHT}">{inside}</image>'
        for i in range(count)
    )


@pytest.fixture(autouse=True)
def more_photos(tmp_path: Path) -> None:
    for i in range(6):
        photo(tmp_path / "images" / f"x{i}.png", 100 + i)


def test_subsets_of_a_project_are_splits(tmp_path: Path) -> None:
    write(tmp_path, POLYGON, subset=' subset="Train"', extra=_images(3, POLYGON, ' subset="Validation"'))
    dataset, _ = load(tmp_path)
    assert dataset.split_origin == "given by the data"
    assert [dataset.names[i] for i in dataset.indices("val")] == [f"images/x{i}.png" for i in range(3)]


def test_images_that_nobody_has_annotated_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, POLYGON, extra=_images(2, ""))
    dataset, _ = load(tmp_path)
    assert len(dataset.names) == 6
    assert (
        "2 images without annotations, left out: nobody may have looked at them: 'images/x0.png', 'images/x1.png'."
        in dataset.notes
    )


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ('<polygon label="cat" points="1,2;3,4"/>', "annotation 1 (polygon): a polygon has 2 points, and an area has at least 3"),
        ('<polygon label="cat" points="1,2;3,x;4,4"/>', "annotation 1 (polygon): it holds what is no number"),
        ('<polygon label="ant" points="1,2;3,4;5,6"/>', "annotation 1 (polygon): the label of a polygon is 'ant', and the task has 'dog', 'cat'"),
        ('<box label="cat" xtl="1" ytl="2" xbr="nan" ybr="3"/>', "annotation 1 (box): its 'xbr' must be a number, got 'nan'"),
        ('<box label="cat" xtl="1" ytl="2"/>', "annotation 1 (box): its 'xbr' must be a number, got None"),
        ('<mask label="cat" rle="1,2" left="0" top="0" width="0" height="3"/>', "annotation 1 (mask): its height and width must be numbers of pixels, got '3', '0'"),
        ('<blob label="cat"/>', "annotation 1 (blob): a 'blob' is no shape that is known"),
    ],
)  # fmt: skip
def test_a_wrong_annotation_is_refused_by_its_place_or_its_image_is_left_out(
    tmp_path: Path, inside: str, said: str
) -> None:
    write(tmp_path, POLYGON, extra=_images(1, inside))
    assert f"annotations.xml, image 'x0.png': {said}" in refusal(tmp_path)
    assert len(load(tmp_path, on_bad_image="skip")[0].names) == 6


def test_a_mask_whose_runs_do_not_fill_it_is_refused(tmp_path: Path) -> None:
    write(tmp_path, MASK.replace("0, 5, 2, 5", "0, 5, 2"))
    assert "annotation 1 ('dog'): its RLE has 7 pixels, and 4 x 3 are 12" in refusal(tmp_path)


def test_a_missing_image_is_refused(tmp_path: Path) -> None:
    write(tmp_path, POLYGON, extra=_images(1, POLYGON, root="gone"))
    assert "annotations.xml, image 'gonex0.png': image 'gonex0.png' does not exist in the data folder." in refusal(
        tmp_path
    )


def test_entities_are_refused_before_they_are_expanded(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    write(tmp_path, POLYGON, head=HEAD.replace("<annotations>", f"{bomb}<annotations>"))
    assert "annotations.xml: is no xml that can be read (it declares entities, which CVAT does not)." in refusal(
        tmp_path
    )


def test_damaged_xml_and_videos_are_refused_with_what_to_export(tmp_path: Path) -> None:
    path = write(tmp_path, POLYGON)
    path.write_text(path.read_text()[:-30])
    assert "annotations.xml: is no xml that can be read (" in refusal(tmp_path)
    path.write_text(HEAD + '<track id="0" label="cat"></track></annotations>')
    assert refusal(tmp_path).endswith(
        "annotations.xml: holds tracks of a video. Export the task from CVAT as 'CVAT for images 1.1'."
    )
