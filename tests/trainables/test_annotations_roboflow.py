"""Roboflow's _classes.csv of labels, one in each split. Its masks are in test_masks.py, its json in the tests of COCO."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from drawn_masks import load, photo, refusal

HEAD = "filename, cat, dog"


def write(root: Path, split: str, *rows: str, head: str = HEAD) -> None:
    for i in range(len(rows)):
        photo(root / split / f"{i}.jpg", zlib.crc32(f"{split}{i}".encode()))
    (root / split / "_classes.csv").write_text("\n".join([head, *rows]) + "\n")


ROWS = ("0.jpg, 1, 0", "1.jpg, 1, 1", "2.jpg, 0, 0", "3.jpg, 0, 1")


def test_each_split_has_its_table(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write(tmp_path, split, *ROWS)
    dataset, _ = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("multilabel", ("cat", "dog"))
    assert dataset.targets.tolist() == [[1, 0], [1, 1], [0, 0], [0, 1]] * 2
    assert [dataset.names[i] for i in dataset.indices("val")] == [f"valid/{i}.jpg" for i in range(4)]


def test_a_table_alone_may_be_named(tmp_path: Path) -> None:
    write(tmp_path, "", *ROWS)
    named = load(tmp_path / "_classes.csv")[0]
    assert named.fingerprint == load(tmp_path)[0].fingerprint
    assert named.targets.sum() == 4


def test_one_label_each_is_multilabel_unless_the_task_says_otherwise(tmp_path: Path) -> None:
    write(tmp_path, "", "0.jpg, 1, 0", "1.jpg, 1, 0", "2.jpg, 0, 1", "3.jpg, 0, 1")
    assert load(tmp_path)[0].task == "multilabel"
    assert load(tmp_path, task="binary")[0].targets.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("4.jpg, 1", "line 6: must have 0 or 1 for each of 2 classes, got 1 cells"),
        ("4.jpg, 1, x", "line 6: must have 0 or 1 for each of 2 classes, got 'x', which is neither 0 nor 1"),
        ("gone.jpg, 1, 0", "line 6: image 'gone.jpg' does not exist in the data folder"),
        ("0.jpg, 1, 0", "line 6: image '0.jpg' has annotations in _classes.csv too"),
    ],
)
def test_a_wrong_row_is_refused_by_its_line_or_left_out(tmp_path: Path, row: str, said: str) -> None:
    write(tmp_path, "", *ROWS, row)
    assert f"_classes.csv, {said}." in refusal(tmp_path)
    assert len(load(tmp_path, on_bad_image="skip")[0].names) == 4


def test_tables_with_other_classes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", *ROWS)
    write(tmp_path, "valid", *ROWS, head="filename, cat, ant")
    assert "valid/_classes.csv: has the classes 'cat', 'ant', and another table 'cat', 'dog'." in refusal(tmp_path)
