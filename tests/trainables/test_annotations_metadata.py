"""metadata.jsonl and metadata.csv, as Hugging Face's documentation of `imagefolder` has them."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from drawn_masks import load, photo, refusal


def write(root: Path, rows: list[dict[str, Any]], folder: str = "", photos: int | None = None) -> Path:
    for i in range(len(rows) if photos is None else photos):
        photo(root / folder / f"{i}.png", zlib.crc32(f"{folder}{i}".encode()))
    path = root / folder / "metadata.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))  # without an end of the last line
    return path


def labelled(**more: Any) -> list[dict[str, Any]]:
    return [{"file_name": f"{i}.png", "label": "cat" if i % 2 else "dog", **more} for i in range(8)]


def test_label_gives_one_class_per_image(tmp_path: Path) -> None:
    path = write(tmp_path, labelled(text="a photo"))
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.classes, dataset.targets.tolist()) == ("binary", ("cat", "dog"), [1, 0] * 4)
    assert load(path)[0].fingerprint == dataset.fingerprint


def test_numbers_are_classes_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, [{"file_name": f"{i}.png", "label": (9, 10, 2)[i % 3]} for i in range(9)])
    assert load(tmp_path)[0].classes == ("2", "9", "10")


def test_each_split_has_its_file(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path, labelled(), split)
    dataset, _ = load(tmp_path)
    assert [dataset.names[i].split("/")[0] for i in dataset.indices("test")] == ["test"] * 8
    assert len(dataset.indices("val")) > 0


def test_one_file_may_stand_above_the_splits(tmp_path: Path) -> None:
    rows = []
    for split in ("train", "validation"):
        for i in range(4):
            photo(tmp_path / split / f"{i}.png", zlib.crc32(f"{split}{i}".encode()))
            rows.append({"file_name": f"{split}/{i}.png", "label": "cat" if i % 2 else "dog"})
    write(tmp_path, rows, photos=0)
    dataset, _ = load(tmp_path)
    assert len(dataset.indices("val")) == 4


@pytest.mark.parametrize(
    "row", [{"labels": ["cat", "dog"]}, {"objects": {"bbox": [[1, 2, 3, 4]] * 3, "categories": ["cat", "dog", "cat"]}}]
)
def test_labels_and_objects_give_several_classes(tmp_path: Path, row: dict[str, Any]) -> None:
    rows = [{"file_name": f"{i}.png", **row} for i in range(4)]
    write(tmp_path, rows)
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.targets.tolist()) == ("multilabel", [[1, 1]] * 4)


def test_a_table_is_read_likewise_and_may_be_named(tmp_path: Path) -> None:
    write(tmp_path, labelled()).unlink()
    file = tmp_path / "metadata.csv"
    file.write_text("file_name,label,text\n" + "".join(f"{i}.png,{'cat' if i % 2 else 'dog'},x\n" for i in range(8)))
    assert load(tmp_path)[0].targets.tolist() == [1, 0] * 4
    assert load(file)[0].targets.tolist() == [1, 0] * 4


def test_images_without_a_label_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, [*labelled(), {"file_name": "8.png", "label": None}])
    dataset, _ = load(tmp_path)
    assert len(dataset.names) == 8
    assert "1 image left out, as nobody has annotated them: '8.png'." in dataset.notes


def test_folders_of_classes_with_captions_beside_them_stay_classes(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        for i in range(4):
            photo(tmp_path / name / f"{i}.png", zlib.crc32(f"{name}{i}".encode()))
    write(tmp_path, [{"file_name": "cats/0.png", "text": "a cat"}], photos=0)
    assert load(tmp_path)[0].classes == ("cats", "dogs")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"file_name": "gone.png", "label": "cat"}, "line 9: image 'gone.png' does not exist in the data folder"),
        ({"file_name": "8.png", "label": ["cat"]}, "line 9: its 'label' must be a name, got a list"),
        ({"label": "cat"}, "line 9: the image's name must be text, got None"),
        ([1], "line 9: it must be an object, got a list"),
    ],
)
def test_a_wrong_line_is_refused_by_its_number_or_left_out(tmp_path: Path, row: Any, said: str) -> None:
    write(tmp_path, [*labelled(), row])
    assert f"metadata.jsonl, {said}." in refusal(tmp_path)
    assert len(load(tmp_path, on_bad_image="skip")[0].names) == 8


def test_a_line_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, labelled())
    path.write_text(path.read_text() + "\n{")
    assert "metadata.jsonl, line 9: is no JSON (" in refusal(tmp_path)


def test_two_tools_in_one_folder_are_refused_with_a_file_to_name(tmp_path: Path) -> None:
    path = write(tmp_path, labelled())
    (tmp_path / "_classes.csv").write_text("filename,cat,dog\n0.png,1,0\n1.png,1,0\n2.png,0,1\n3.png,0,1\n")
    assert "has annotations of Roboflow and of Hugging Face's imagefolder: '_classes.csv', 'metadata.jsonl'" in refusal(
        tmp_path
    )
    assert len(load(path)[0].names) == 8
