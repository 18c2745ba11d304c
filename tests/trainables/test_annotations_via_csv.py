"""The csv of VIA says what its json says, and is no table of labels."""

from __future__ import annotations

import csv
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from drawn_masks import load, photo, refusal
from test_annotations_via import SQUARE, region, write

from trainables.data.tools.via_csv import COLUMNS
from visionsweep.core.errors import DataError


def rows_of(document: dict[str, Any]) -> list[list[str]]:
    """Return the rows that VIA's "Export Annotations (as csv)" writes of its json."""
    rows = []
    for image in document.values():
        regions = image["regions"] or [{"shape_attributes": {}, "region_attributes": {}}]
        for number, one in enumerate(regions):
            of_file = [image["filename"], str(image["size"]), json.dumps(image["file_attributes"])]
            cells = (one["shape_attributes"], one["region_attributes"])
            rows.append([*of_file, str(len(image["regions"])), str(number), *map(json.dumps, cells)])
    return rows


def to_csv(path: Path, rows: list[list[str]], header: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def exported(root: Path, *regions: Any, name: str = "via_export.csv", **options: Any) -> Path:
    """Write images and VIA's csv of them."""
    document = write(root, *regions, **options)
    path = to_csv(root / name, rows_of(json.loads(document.read_text())))
    document.unlink()
    return path


def damage(path: Path, line: int, column: str, cell: str) -> None:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    rows[line - 1][COLUMNS.index(column)] = cell
    to_csv(path, rows[1:], tuple(rows[0]))


def test_the_csv_and_the_json_of_the_same_regions_are_the_same_data(tmp_path: Path) -> None:
    regions = (
        region({"name": "circle", "cx": 5, "cy": 5, "r": 2}, kind="ant"),
        region({"name": "ellipse", "cx": 14, "cy": 8, "rx": 4, "ry": 2, "theta": 1.5}, kind="bee"),
        region({"name": "rect", "x": 0, "y": 12, "width": 5, "height": 2}, kind={"cat": True, "dog": False}),
        region({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}, kind="ant"),
        region({"name": "point", "cx": 1, "cy": 1}, kind="ant"),
        region(kind="bee"),
    )
    empty = {"filename": "odd.png", "size": 1, "regions": [], "file_attributes": {}}
    write(tmp_path / "json", *regions, extra=empty)
    path = exported(tmp_path / "csv", *regions, extra=empty)
    of_json, masks = load(tmp_path / "json")
    of_csv, same_masks = load(path)
    assert (of_csv.fingerprint, of_csv.classes, of_csv.names) == (of_json.fingerprint, of_json.classes, of_json.names)
    assert all((same_masks.mask(index) == masks.mask(index)).all() for index in range(len(of_csv.names)))
    assert "12 shapes left out, as they have no area: point (6), polyline (6)." in of_csv.notes
    assert load(tmp_path / "csv")[0].notes == of_csv.notes


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv", "_classes.csv", "Export.CSV"])
def test_what_the_file_holds_counts_and_not_its_name(tmp_path: Path, name: str) -> None:
    path = exported(tmp_path, region(kind="cat"), name=name)
    assert load(path)[0].classes == load(tmp_path)[0].classes == ("background", "cat")


def test_the_header_of_version_1_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = exported(tmp_path, region(kind="cat"))
    path.write_text("\ufeff#" + path.read_text(), encoding="utf-8")
    assert load(tmp_path)[0].classes == ("background", "cat")


def test_attributes_of_files_are_the_labels_of_images(tmp_path: Path) -> None:
    path = exported(tmp_path, num_images=8)
    for line in range(2, 10):
        of_file = {"caption": "", "public_domain": "no", "species": "cat" if line % 2 else "dog"}
        damage(path, line, "file_attributes", json.dumps(of_file))
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.classes, dataset.targets.tolist()) == ("binary", ("cat", "dog"), [1, 0] * 4)


def test_a_table_of_labels_with_columns_called_like_some_of_vias_stays_a_table(tmp_path: Path) -> None:
    for i in range(8):
        photo(tmp_path / f"{i}.png", zlib.crc32(f"{i}".encode()))
    rows = [[f"{i}.png", "ab"[i % 2]] for i in range(8)]
    assert load(to_csv(tmp_path / "labels.csv", rows, ("image", "label")))[0].classes == ("a", "b")
    path = to_csv(tmp_path / "labels.csv", rows, ("filename", "region_count"))
    assert "labels.csv, line 1: no column 'image'. Is it 'filename'? Rename it to 'image'." in refusal(path)
    path = to_csv(tmp_path / "labels.csv", rows, ("image", "region_shape_attributes"))
    assert "labels.csv, line 1: no column 'label' or 'labels'" in refusal(path)


def test_the_json_and_the_csv_of_one_folder_are_not_read_together(tmp_path: Path) -> None:
    exported(tmp_path, region(kind="cat"))
    write(tmp_path, region(kind="cat"))
    said = refusal(tmp_path)
    assert "has annotations of VIA and of VIA (csv)" in said or "has annotations of VIA (csv) and of VIA" in said
    assert "Name the file that counts: --data" in said


def test_a_file_in_each_folder_of_a_split_gives_the_split(tmp_path: Path) -> None:
    exported(tmp_path / "train", region(kind="cat"), num_images=4)
    exported(tmp_path / "val", region(kind="cat"), num_images=2)
    for i in range(2):
        photo(tmp_path / "val" / f"{i}.png", 100 + i)  # no copy of one to train on
    dataset, _ = load(tmp_path)
    assert dataset.split.tolist() == ["train"] * 4 + ["val"] * 2


@pytest.mark.parametrize(
    ("line", "column", "cell", "said"),
    [
        (3, "region_shape_attributes", '{"name": "rect"', "line 3: its region_shape_attributes '{\"name\": \"rect\"' are no JSON (Expecting"),
        (3, "region_attributes", "cat", "line 3: its region_attributes 'cat' are no JSON (Expecting value"),
        (3, "file_attributes", "[]", "line 3: its file_attributes must be a JSON object, got a list"),
        (3, "region_shape_attributes", "[" * 9999, "line 3: its region_shape_attributes '[[["),
        (3, "region_shape_attributes", '{"name": "cube"}', "image '0.png': line 3: 'cube' is no shape of VIA"),
        (3, "region_shape_attributes", "", "image '0.png': line 3: it must be an object with shape_attributes and the"),
        (3, "region_id", "0", "line 3: region '0' of the image stands in line 2 already"),
        (3, "region_count", "3", "line 3: region_count is '3', and '2' in the image's line 2"),
        (3, "file_attributes", '{"a": 1}', "line 3: file_attributes is '{\"a\": 1}', and '{}' in the image's line 2"),
        (3, "filename", "1.png", "image '0.png': line 2 says that it has '2' regions, and the file has 1 row of it"),
        (3, "file_size", "9", "image '0.png': line 2 says that it has '2' regions, and the file has 1 row of it"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_refused_by_its_line_or_its_image_is_left_out(
    tmp_path: Path, line: int, column: str, cell: str, said: str
) -> None:
    path = exported(tmp_path, region(kind="cat"), region(kind="dog"))
    damage(path, line, column, cell)
    if column == "filename":  # the row has moved to the next image, which then has one too many
        damage(path, 4, "region_id", "7")
    refused = refusal(path)
    assert said in refused, refused
    assert refused.startswith(f"{tmp_path}/via_export.csv, ")
    assert "\n" not in refused
    dataset, _ = load(path, on_bad_image="skip")
    assert "0.png" not in dataset.names
    assert "5.png" in dataset.names


def test_an_image_that_is_wrong_in_two_rows_is_counted_once(tmp_path: Path) -> None:
    path = exported(tmp_path, region(kind="cat"), region(kind="dog"))
    damage(path, 2, "region_attributes", "x")
    damage(path, 3, "region_attributes", "y")
    assert "1 image left out, with wrong annotations." in " ".join(load(path, on_bad_image="skip")[0].notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("filename,region_shape_attributes\n0.png,{}\n", "once each, not so 'file_size', 'file_attributes', "),
        (",".join((*COLUMNS, "filename")) + "\n", "once each, not so 'filename'"),
        (",".join(COLUMNS) + "\n0.png,1,{},1,0\n", "line 2: has 5 cells, and the header 7. Quote cells that hold a"),
        (",".join(COLUMNS) + '\n0.png,1,{},1,0,{},"{}\n', "line 2: is no csv (unexpected end of data)"),
        (",".join(COLUMNS) + "\n" + ",".join(COLUMNS) + "\n", "line 2: its file_attributes 'file_attributes' are no"),
        (",".join(COLUMNS) + "\n", "no annotated images found in"),
    ],
)  # fmt: skip
def test_a_file_that_is_cut_or_joined_is_refused_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    photo(tmp_path / "0.png", 1)
    (tmp_path / "via.csv").write_text(text)
    refused = refusal(tmp_path)
    assert said in refused, refused
    assert "\n" not in refused


def test_a_file_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    path = exported(tmp_path, region(SQUARE, kind="cat"))
    path.write_bytes(path.read_bytes().replace(b"cat", b"c\xff"))
    with pytest.raises(
        DataError, match=r"via_export\.csv' is not UTF-8 text \(invalid start byte\)\. Save it as UTF-8"
    ):
        load(path)
