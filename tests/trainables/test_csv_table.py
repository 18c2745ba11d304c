"""Tables of images, and the words for each way in which one can be wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from visionsweep.core.errors import DataError


def table(root: Path, header: str, *rows: str, num_images: int = 8) -> Path:
    """A labels.csv with images/0.png, images/1.png, ... beside it."""
    (root / "images").mkdir()
    for i in range(num_images):
        Image.new("RGB", (8, 8), (i, 2 * i, 3 * i)).save(root / "images" / f"{i}.png")
    file = root / "labels.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def load(spec: Path, **options: object) -> Dataset:
    return load_dataset(str(spec), short_side_px=8, cache_dir=None, **options)[0]  # type: ignore[arg-type]


def refusal(spec: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load(spec, **options)
    return str(caught.value)


ONE_LABEL = [f"images/{i}.png,{'cat' if i % 2 else 'dog'}" for i in range(8)]


def test_a_label_column_gives_one_class_per_image(tmp_path: Path) -> None:
    file = table(tmp_path, "image,label", *ONE_LABEL)
    for spec in (file, tmp_path):  # the file, or the folder that holds it
        dataset = load(spec)
        assert (dataset.task, dataset.classes) == ("binary", ("cat", "dog"))
        assert dataset.targets.tolist() == [1, 0] * 4


def test_a_labels_column_gives_any_number_of_classes_per_image(tmp_path: Path) -> None:
    table(tmp_path, "image,labels", "images/0.png,cat|dog", "images/1.png,", "images/2.png, cat ", "images/3.png,dog")
    dataset = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("multilabel", ("cat", "dog"))
    assert dataset.targets.tolist() == [[1, 1], [0, 0], [1, 0], [0, 1]]
    assert dataset.targets.dtype == np.uint8


def test_zero_one_columns_are_classes_in_the_order_of_the_table(tmp_path: Path) -> None:
    rows = [f"images/{i}.png,{i % 2},1.0,train" for i in range(4)] + [f"images/{i}.png,0,1,val" for i in range(4, 8)]
    table(tmp_path, "image,zebra,ape,split", *rows)
    dataset = load(tmp_path)
    assert (dataset.task, dataset.classes) == ("multilabel", ("zebra", "ape"))
    assert dataset.split_origin == "given by the data"
    assert dataset.indices("val").tolist() == [4, 5, 6, 7]
    assert dataset.notes == ("No val image has this label: 'zebra'.",)


def test_a_table_that_excel_wrote_is_read(tmp_path: Path) -> None:
    file = table(tmp_path, "image,label", *ONE_LABEL)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n,\r\n")
    assert len(load(file).names) == 8


def test_a_row_with_a_missing_image_is_refused_by_its_line_or_left_out(tmp_path: Path) -> None:
    file = table(tmp_path, "image,label", *ONE_LABEL, "images/0812.jpg,cat")
    assert refusal(tmp_path) == (
        f"{file}, line 10: image 'images/0812.jpg' does not exist. Fix the row, or pass --on-bad-image skip."
    )
    dataset = load(tmp_path, on_bad_image="skip")
    assert len(dataset.names) == 8
    assert dataset.notes == ("1 row left out, as the image does not exist: 'images/0812.jpg'.",)


def test_a_table_of_missing_images_is_refused_even_where_they_may_be_skipped(tmp_path: Path) -> None:
    table(tmp_path, "image,label", "a.jpg,cat", "b.jpg,dog")
    assert "none of the 2 images that it names exists" in refusal(tmp_path, on_bad_image="skip")


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("what,label", "images/0.png,cat", "no column 'image'. Found: 'what', 'label'."),
        ("file,label", "images/0.png,cat", "no column 'image'. Is it 'file'? Rename it to 'image'."),
        ("imge,label", "images/0.png,cat", "no column 'image'. Is it 'imge'? Rename it."),
        ("image,label,splt", "images/0.png,cat,train", "unknown column 'splt' beside 'label'. Did you mean 'split'?"),
        ("image,label,labels", "images/0.png,cat,cat", "'label' and 'labels' exclude each other"),
        ("image,split", "images/0.png,train", "no column 'label' or 'labels'"),
        ("image,cat", "images/0.png,1", "it takes at least two. For a yes-or-no question, write a `label` column."),
        ("image,cat,cat", "images/0.png,1,0", "column 'cat' stands there twice"),
        ("image;label", "images/0.png;cat", "the columns are not separated by commas"),
        ("image,cat,dog", "images/0.png,1,2", "line 2: column 'dog' holds '2', which is neither 0 nor 1."),
        ("image,cat,dog", "images/0.png,,1", "line 2: column 'cat' holds '', which is neither 0 nor 1."),
        ("image,cat,lable", "images/0.png,1,cat", "holds 'cat', which is neither 0 nor 1. Did you mean 'label'?"),
        ("image,label,split", "images/0.png,cat,trian", "line 2: unknown split 'trian'. Did you mean 'train'?"),
        ("image,label,split", "images/0.png,cat,", "line 2: unknown split ''. Known: train, val, test."),
        ("image,label", "images/0.png,", "line 2: the label is empty"),
        ("image,label", "images/0.png,cat,x", "line 2: 3 cells where the header has 2"),
        ("image,label", ",cat", "line 2: the image cell is empty"),
        ("image,label", "../secret.png,cat", "line 2: image '../secret.png' leads out of the data folder"),
        ("image,label", "images/../../x.png,cat", "leads out of the data folder"),
        ("image,label", "/etc/hostname,cat", "leads out of the data folder"),
        ("image,label", "", "it has no rows"),
        ("", "", "no column 'image'"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line_and_the_next_move(
    tmp_path: Path, header: str, row: str, words: str
) -> None:
    file = table(tmp_path, header, row)
    message = refusal(tmp_path)
    assert words in message
    assert str(file) in message


def test_one_image_with_two_labels_is_refused_with_both_lines(tmp_path: Path) -> None:
    table(tmp_path, "image,label", *ONE_LABEL, "./images/3.png,dog")
    message = refusal(tmp_path)
    assert "line 10: image 'images/3.png' stands in line 5 with other labels (label: 'cat', here 'dog')" in message


def test_one_image_on_two_sides_of_the_split_is_refused(tmp_path: Path) -> None:
    table(tmp_path, "image,label,split", "images/0.png,cat,train", "images/0.png,cat,val")
    assert "stands in line 2 with other splits (split: 'train', here 'val')" in refusal(tmp_path)


def test_a_row_that_says_the_same_again_counts_once(tmp_path: Path) -> None:
    table(tmp_path, "image,label", *ONE_LABEL, ONE_LABEL[0])
    dataset = load(tmp_path)
    assert len(dataset.names) == 8
    assert dataset.notes == ("1 row left out, as an earlier row says the same.",)


def test_a_split_without_train_is_refused(tmp_path: Path) -> None:
    table(tmp_path, "image,label,split", *[f"{row},val" for row in ONE_LABEL])
    assert "no image is left to train on" in refusal(tmp_path)


def test_several_labels_per_image_are_not_made_one_class(tmp_path: Path) -> None:
    table(tmp_path, "image,labels", "images/0.png,cat|dog", "images/1.png,dog")
    assert "Pass --task multilabel" in refusal(tmp_path, task="multiclass")


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = table(tmp_path, "image,label", *ONE_LABEL)
    file.write_bytes("image,label\nimages/0.png,café".encode("latin-1"))
    assert "is not UTF-8 text" in refusal(file)


def test_a_fingerprint_is_the_contents_not_the_place(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    file = table(tmp_path / "here", "image,label", *ONE_LABEL)
    there = shutil.copytree(tmp_path / "here", tmp_path / "there")
    before = load(file).fingerprint
    assert len(before) == 16
    assert load(there).fingerprint == before
    Image.new("RGB", (8, 8), (200, 0, 0)).save(there / "images" / "0.png")
    assert load(there).fingerprint != before
    file.write_text(file.read_text().replace("dog", "wolf"))
    assert load(file).fingerprint != before
