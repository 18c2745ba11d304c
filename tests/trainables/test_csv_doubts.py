"""Tables that could mean two things: an assumption is a note, and a doubt is an error with the ways out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.csv_separators import guessed, recombined
from trainables.data.formats import load_dataset, scan_data
from trainables.data.read_as import ReadAs
from trainables.data.scan import Scan
from visionsweep.core.errors import DataError


def table(root: Path, text: str, num_images: int = 8) -> Path:
    """Write labels.csv with 0.png, 1.png, ... and images/0.png, images/1.png, ... beside it."""
    (root / "images").mkdir(exist_ok=True)
    for i in range(num_images):
        for folder in (root, root / "images"):
            Image.new("RGB", (8, 8), (i, 2 * i, 3 * i)).save(folder / f"{i}.png")
    file = root / "labels.csv"
    file.write_text(text)
    return file


def rows(header: str, *cells: str) -> str:
    """Row i is of image i.png."""
    return "\n".join([header, *(f"{i}.png,{cell}" for i, cell in enumerate(cells))]) + "\n"


def scan(root: Path, **read_as: str) -> Scan:
    return scan_data(str(root), read_as=ReadAs(**read_as), cache_dir=None)


def refusal(root: Path, **read_as: str) -> str:
    with pytest.raises(DataError) as caught:
        scan(root, **read_as)
    return str(caught.value)


def tags(found: Scan) -> list[set[str]]:
    return [{found.classes[i] for i in np.flatnonzero(row)} for row in found.targets]


# Separators


@pytest.mark.parametrize(
    ("between", "called"),
    [(",", "','"), (";", "';'"), (" ", "a blank"), ("/", "'/'"), ("+", "'+'"), ("\t", "a tab")],
)
def test_another_separator_stops_with_its_line_and_both_ways_out(tmp_path: Path, between: str, called: str) -> None:
    cells = [f'"{between.join(["clear", "road", "water"][: i % 3 + 1])}"' for i in range(8)]
    file = table(tmp_path, rows("image,labels", *cells))
    joined, option = (text.replace("\t", "\\t") for text in (cells[1].strip('"'), between))
    assert refusal(tmp_path) == (
        f"{file}, line 3: no cell of `labels` holds '|', but '{joined}' holds {called}. "
        f"If it separates labels, pass --label-separator '{option}', or write '|' instead. "
        "If it is part of a name, pass --label-separator '|'."
    )
    told = scan(tmp_path, label_separator=option)
    assert told.classes == ("clear", "road", "water")
    assert tags(told)[:3] == [{"clear"}, {"clear", "road"}, {"clear", "road", "water"}]
    assert told.notes == ()
    assert scan(tmp_path, label_separator="|").classes == tuple(
        between.join(["clear", "road", "water"][:n]) for n in (1, 2, 3)
    )


def test_a_comma_stops_even_where_no_tag_comes_twice(tmp_path: Path) -> None:
    table(tmp_path, rows("image,labels", '"cat, dog"', "bird", "fish"))
    assert "'cat, dog' holds ','" in refusal(tmp_path)
    assert tags(scan(tmp_path, label_separator=","))[0] == {"cat", "dog"}


@pytest.mark.parametrize(
    "cells",
    [
        ["traffic light", "fire hydrant", "stop sign", "parking meter"],
        ["traffic light", "stop sign", "light", "fire hydrant", "parking meter"],
        ["upper arm", "lower arm", "upper leg", "lower leg"],
        ["animal/cat", "animal/dog", "plant/oak"],
        ["round neck", "v neck", "crew neck"],
    ],
)
def test_names_of_several_words_are_one_label_each(tmp_path: Path, cells: list[str]) -> None:
    table(tmp_path, rows("image,labels", *cells))
    assert tags(scan(tmp_path)) == [{cell} for cell in cells]


@pytest.mark.parametrize(
    ("cells", "between"),
    [
        (["16 0", "7 1 2 0", "5", "1 0"], " "),
        (["haze primary", "clear primary road", "clear primary"], " "),
        (["a+b", "a", "c"], "+"),
        (["clear", "clear & road"], "&"),
    ],
)
def test_parts_that_recombine_are_labels(cells: list[str], between: str) -> None:
    found = guessed(cells)
    assert found is not None
    assert found[0] == between


def test_blanks_that_may_part_labels_are_a_note(tmp_path: Path) -> None:
    table(tmp_path, rows("image,labels", "red car", "red bus", ""))
    assert scan(tmp_path).notes == (
        "Labels with a blank are one label each, such as 'red car' (--label-separator ' ' would part them).",
    )


@pytest.mark.parametrize("between", [":", "-", "_"])
def test_what_names_often_hold_separates_where_every_part_stands_alone(tmp_path: Path, between: str) -> None:
    table(tmp_path, rows("image,labels", f"cat{between}dog", "cat", "dog"))
    assert f"'cat{between}dog' holds '{between}'" in refusal(tmp_path)
    table(tmp_path, rows("image,labels", f"t{between}shirt", "shirt", f"v{between}neck"))
    assert len(scan(tmp_path).classes) == 3


def test_names_with_commas_are_classes_where_their_parts_do_not_recombine(tmp_path: Path) -> None:
    cells = [
        '"tench, Tinca tinca"',
        '"goldfish, Carassius auratus"',
        '"maillot, tank suit"',
        "maillot",
        '"crane, bird"',
    ]
    table(tmp_path, rows("image,label", *cells))
    assert len(scan(tmp_path).classes) == 5
    assert recombined(["A+", "A", "AB+", "B"], ("+",)) is None  # blood groups


@pytest.mark.parametrize("cells", [["cat", "cat|dog", "dog"], ["cat", '"cat,dog"', "dog"], ["a;b", "b;c", "a;c"]])
def test_several_names_in_a_column_of_one_class_stop(tmp_path: Path, cells: list[str]) -> None:
    table(tmp_path, rows("image,label", *cells))
    message = refusal(tmp_path)
    assert "`label` is one class, but '" in message
    assert "Call the column `labels`" in message


def test_beside_the_bar_a_comma_is_part_of_a_name_and_a_note(tmp_path: Path) -> None:
    file = table(tmp_path, rows("image,labels", "cat|dog", '"cat,dog"', "dog"))
    told = scan(tmp_path)
    assert told.classes == ("cat", "cat,dog", "dog")
    assert told.notes == ("Labels are separated by '|' alone: ',' in 'cat,dog' (line 3) is part of a name.",)
    other = scan(tmp_path, label_separator=",")
    assert other.notes == ("Labels are separated by ',' alone: '|' in 'cat|dog' (line 2) is part of a name.",)
    assert file.is_file()


def test_a_separator_that_no_cell_holds_is_a_note(tmp_path: Path) -> None:
    table(tmp_path, rows("image,labels", "cat", "dog", ""))
    assert scan(tmp_path, label_separator=";").notes == (
        "No cell of `labels` holds the separator ';': each is one label.",
    )
    table(tmp_path, rows("image,label", "cat", "dog"))
    assert scan(tmp_path, label_separator=";").notes == (
        "--label-separator is not used: the table has no column `labels`.",
    )


@pytest.mark.parametrize("cell", ["\"['cat', 'dog']\"", "['cat']", '"{""cat"", ""dog""}"', "[]"])
def test_a_list_in_a_cell_stops(tmp_path: Path, cell: str) -> None:
    table(tmp_path, rows("image,labels", "bird", cell))
    message = refusal(tmp_path)
    assert "line 3: the cell holds a list" in message
    assert "Write its tags as 'cat|dog'" in message


def test_one_label_in_each_row_is_a_note(tmp_path: Path) -> None:
    note = ("Each image has exactly one label. Write a column `label` if no image can have several.",)
    table(tmp_path, rows("image,labels", "cat", "dog"))
    assert scan(tmp_path).notes == note
    table(tmp_path, rows("image,cat,dog", "1,0", "0,1"))
    assert scan(tmp_path).notes == note
    table(tmp_path, rows("image,cat,dog", "1,0", "1,1"))
    assert scan(tmp_path).notes == ()


# Labels that are missing, and names that are written in two ways


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "NULL", "N/A", "NA", "<NA>"])
def test_a_missing_label_is_no_class(tmp_path: Path, word: str) -> None:
    file = table(tmp_path, rows("image,label", "cat", word, "dog", word, word))
    assert refusal(tmp_path) == (
        f"{file}, line 3: the label is '{word}', which stands for a missing one (and in 2 more rows). Name a class, or "
        "remove the row. A class that is called so needs another name, such as 'nothing'."
    )
    table(tmp_path, rows("image,labels", "cat|dog", word, "dog"))
    told = scan(tmp_path)
    assert tags(told) == [{"cat", "dog"}, set(), {"dog"}]
    assert told.notes == (f"1 label called '{word}' left out, as missing.",)


def test_empty_labels_are_counted(tmp_path: Path) -> None:
    table(tmp_path, rows("image,label", "cat", "", "dog", ""))
    assert "line 3: the label is empty (and in 1 more row). Name a class, or remove the row." in refusal(tmp_path)


def test_words_that_are_no_missing_value_stay_classes(tmp_path: Path) -> None:
    table(tmp_path, rows("image,label", "none", "nano", "no findings"))
    assert scan(tmp_path).classes == ("nano", "no findings", "none")


@pytest.mark.parametrize(("column", "ending"), [("label", ""), ("labels", "|2")])
def test_whole_numbers_written_as_floats_are_the_same_classes(tmp_path: Path, column: str, ending: str) -> None:
    table(tmp_path, rows(f"image,{column}", "1", f"1.0{ending}", "2.0", "10"))
    told = scan(tmp_path)
    assert told.classes == ("1", "2", "10")
    assert told.notes == ("Labels are whole numbers: '1.0' is taken as '1'.",)


def test_versions_are_no_whole_numbers(tmp_path: Path) -> None:
    table(tmp_path, rows("image,label", "1.0", "1.5", "cat"))
    assert scan(tmp_path).classes == ("1.0", "1.5", "cat")


@pytest.mark.parametrize(
    "pair", [("fire truck", "fire_truck"), ("no findings", "no-findings"), ("01", "1"), ("1", "1e0")]
)
def test_classes_that_differ_in_spelling_alone_are_told(tmp_path: Path, pair: tuple[str, str]) -> None:
    note = f"'{pair[0]}', '{pair[1]}' are different classes, though they may mean the same."
    table(tmp_path, rows("image,label", *pair, "0"))
    assert scan(tmp_path).notes == (note,)
    table(tmp_path, rows("image,labels", *pair, "|".join(pair)))
    assert scan(tmp_path, label_separator="|").notes == (note,)
    table(tmp_path, rows(f"image,{','.join(pair)}", "1,1", "0,1"))
    assert scan(tmp_path).notes == (note,)


def test_blanks_around_a_label_do_not_count(tmp_path: Path) -> None:
    table(tmp_path, rows("image , label", " cat", "cat ", " dog"))
    assert scan(tmp_path).classes == ("cat", "dog")


# Columns


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "id", "index", "ID", "#"])
@pytest.mark.parametrize("header", ["label", "labels", "cat,dog"])
def test_row_numbers_are_no_class(tmp_path: Path, name: str, header: str) -> None:
    cells = "1,0" if header == "cat,dog" else "cat"
    others = "1,1" if header == "cat,dog" else "dog"
    text = f"{name},image,{header}\n0,0.png,{cells}\n1,1.png,{others}\n2,2.png,{others}\n"
    table(tmp_path, text)
    told = scan(tmp_path)
    assert told.classes == ("cat", "dog")
    unnamed = name in ("", "Unnamed: 0")
    note = "Column 1 is left out: it has no name and numbers the rows." if unnamed else (
        f"Column '{name}' is left out: it numbers the rows."
    )  # fmt: skip
    assert told.notes[0] == note


def test_a_filtered_table_keeps_its_row_numbers_and_a_repeated_row_counts_once(tmp_path: Path) -> None:
    table(tmp_path, ",image,label\n7,0.png,cat\n9,1.png,dog\n30,0.png,cat\n")
    told = scan(tmp_path)
    assert told.names == ("0.png", "1.png")
    assert told.notes[1:] == ("1 row left out, as an earlier row says the same.",)


def test_commas_at_the_ends_of_rows_are_no_columns(tmp_path: Path) -> None:
    table(tmp_path, "image,label,,\n0.png,cat,,\n1.png,dog,,\n")
    told = scan(tmp_path)
    assert (told.classes, told.notes) == (("cat", "dog"), ())
    table(tmp_path, "image,label,\n0.png,cat,\n1.png,dog,see there\n")
    assert "line 1: column 3 has no name. Name or remove it." in refusal(tmp_path)


def test_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    table(tmp_path, rows("image,cat,dog,", "1,0,0", "1,1,1", "0,1,0"))
    assert "line 1: column 4 has no name. Name or remove it." in refusal(tmp_path)


def test_a_column_id_that_is_no_row_number_is_refused(tmp_path: Path) -> None:
    table(tmp_path, "id,image,label\na7,0.png,cat\nb8,1.png,dog\n")
    assert "unknown column 'id' beside 'label'" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["fold", "kfold", "Fold"])
def test_folds_are_left_out_and_said(tmp_path: Path, name: str) -> None:
    table(tmp_path, rows(f"image,label,{name}", *[f"{'cat' if i % 2 else 'dog'},{i % 4}" for i in range(8)]))
    told = scan(tmp_path)
    assert told.classes == ("cat", "dog")
    assert told.notes == (f"Column '{name}' is left out: folds are not used. Write a column `split` to use one.",)
    table(tmp_path, rows(f"image,cat,dog,{name}", "1,0,0", "1,1,1", "0,1,2"))
    assert scan(tmp_path).classes == ("cat", "dog")


def test_a_fold_of_zero_and_one_among_classes_stops(tmp_path: Path) -> None:
    table(tmp_path, rows("image,cat,dog,fold", "1,0,0", "1,1,1"))
    assert "column 'fold' holds only 0 and 1, so it could be a class or a fold. Rename" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("header", "cells", "words"),
    [
        ("filename,label", "cat", "no column 'image'. Is it 'filename'? Rename it to 'image'."),
        ("File Name,label", "cat", "no column 'image'. Is it 'File Name'? Rename it to 'image'."),
        ("image_path,label", "cat", "no column 'image'. Is it 'image_path'? Rename it to 'image'."),
        ("image_id,label", "cat", "no column 'image'. Is it 'image_id'? Rename it to 'image'."),
        ("img,label", "cat", "no column 'image'. Is it 'img'? Rename it to 'image'."),
        ("id,label", "cat", "no column 'image'. Is it 'id'? Rename it to 'image'."),
        ("0.png,cat", "dog", "The first row is '0.png' already. Write the names of the columns above it."),
        ("image,class", "cat", "Is it 'class'? Rename it to 'label'."),
        ("image,tags", "cat", "Is it 'tags'? Rename it to 'labels'."),
        ("image,target,width", "cat,8", "column 'target' holds 'cat', which is neither 0 nor 1. Is it 'target'?"),
        ("image,label,set", "cat,train", "unknown column 'set' beside 'label'. Is it 'set'? Rename it to 'split'."),
        ("image,cat,dog,subset", "1,0,train", "column 'subset' holds 'train', which is neither 0 nor 1. Is it"),
        ("image,cat,dog,is_valid", "1,0,1", "column 'is_valid' looks like a split, and would be a class."),
        ("image,cat,dog,width", "1,0,640", "column 'width' holds '640', which is neither 0 nor 1."),
        ("image,label,split", "cat,test1", "unknown split 'test1'. Did you mean 'test'?"),
    ],
)
def test_what_a_column_is_called_elsewhere_is_offered(tmp_path: Path, header: str, cells: str, words: str) -> None:
    table(tmp_path, rows(header, cells))
    assert words in refusal(tmp_path)


def test_the_right_names_are_taken_in_any_case_and_said(tmp_path: Path) -> None:
    table(tmp_path, rows("Image,LABEL,Split", "cat,Training", "dog,valid", "cat,TEST", "dog,train", "cat,dev"))
    told = scan(tmp_path)
    assert told.given.tolist() == ["train", "val", "test", "train", "val"]
    assert told.notes == (
        "Column 'Image' is taken as 'image'.",
        "Column 'LABEL' is taken as 'label'.",
        "Column 'Split' is taken as 'split'.",
        "Split 'Training' is taken as 'train'.",
        "Split 'valid' is taken as 'val'.",
        "Split 'TEST' is taken as 'test'.",
        "Split 'dev' is taken as 'val'.",
    )


def test_a_flag_of_a_split_beside_a_label_is_refused_with_what_to_write(tmp_path: Path) -> None:
    table(tmp_path, rows("image,label,is_valid", "cat,True", "dog,False"))
    assert "unknown column 'is_valid' beside 'label'. Write a column `split` with train" in refusal(tmp_path)


def test_names_that_only_resemble_a_flag_or_a_list_are_classes(tmp_path: Path) -> None:
    table(tmp_path, rows("image,cat,invalid,fold_line", "1,0,1", "1,1,0"))
    assert scan(tmp_path).classes == ("cat", "invalid", "fold_line")
    table(tmp_path, rows("image,labels", "(unknown)", "cat"))
    assert scan(tmp_path).classes == ("(unknown)", "cat")


def test_truth_values_are_zero_and_one(tmp_path: Path) -> None:
    table(tmp_path, rows("image,cat,dog", "True,False", "True,True"))
    assert scan(tmp_path).targets.tolist() == [[1, 0], [1, 1]]


# Paths


def test_paths_of_windows_are_taken_with_slashes(tmp_path: Path) -> None:
    table(tmp_path, "image,label\nimages\\0.png,cat\n.\\images\\1.png,dog\n")
    told = scan(tmp_path)
    assert told.names == ("images/0.png", "images/1.png")
    assert told.notes == ("2 paths with backslashes taken with slashes: 'images\\0.png' as 'images/0.png'.",)
    told.reader(0)


@pytest.mark.parametrize(
    ("cell", "there"),
    [
        ("3", "3.png"),
        ("3.jpg", "3.png"),
        ("7.PNG", "7.png"),
        ("images/3", "images/3.png"),
        ("photos/3.png", "3.png"),
        ("C:\\data\\images\\3.png", "images/3.png"),
        ("/home/somebody/images/3.png", "images/3.png"),
        ("../images/3.png", "images/3.png"),
    ],
)
def test_a_file_that_an_image_cell_may_mean_is_offered(tmp_path: Path, cell: str, there: str) -> None:
    table(tmp_path, f"image,label\n{cell},cat\n")
    message = refusal(tmp_path)
    assert f"but '{there}' does" in message or f"Is it '{there}'?" in message


def test_images_in_a_folder_beside_the_table_are_offered(tmp_path: Path) -> None:
    table(tmp_path, "image,label\n0.png,cat\n1.png,dog\n")
    for i in range(8):
        (tmp_path / f"{i}.png").unlink()
    assert "line 2: image '0.png' does not exist, but 'images/0.png' does." in refusal(tmp_path)
    assert "none of the 2 images that it names exists; '0.png' may be 'images/0.png'" in (
        refusal(tmp_path, on_bad_image="skip")
    )


# Files


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_end_of_line_is_read(tmp_path: Path, ends: str, mark: str) -> None:
    file = table(tmp_path, "")
    file.write_bytes((mark + ends.join(["image,label", "0.png,cat", "", "1.png,dog"])).encode())
    assert scan(tmp_path).classes == ("cat", "dog")


def test_quotes_after_a_blank_are_quotes(tmp_path: Path) -> None:
    table(tmp_path, 'image, labels\n0.png, "cat, dog"\n1.png, "cat"\n')
    assert scan(tmp_path, label_separator=",").classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "image,label\n0.png,cat\n".encode("utf-16"),
            "is not UTF-8 text (invalid start byte). Save it as 'CSV UTF-8'.",
        ),
        ("image,label\n0.png,cat\n".encode("utf-16-le"), "line 1: there is a NUL byte, as in UTF-16 text. Save"),
        (b"image,label\n0.png,c\0at\n", "line 2: there is a NUL byte"),
        (b"image,label\n0.png,cat\nimage,label\n1.png,dog\n", "line 3: the row repeats the header. Remove it."),
        (b"image,label\n\n0.png,cat,x\n", "line 3: 3 cells where the header has 2. Fix the row"),
        (
            b'image,label\n0.png,cat\n"1.png,dog\n2.png,cat\n',
            "line 3: the row goes on to line 4, so a quote in it may never close.",
        ),
        (
            b'image,label\n0.png,"cat\n1.png,dog\n',
            "line 2: the row goes on to line 3, so a quote in it may never close.",
        ),
        (b"image|label\n0.png|cat\n", "the columns are not separated by commas"),
        (b"image label\n0.png cat\n", "the columns are not separated by commas"),
        (b"sep=,\nimage,label\n0.png,cat\n", "'sep=' is a hint to Excel. Remove the line."),
        (b"image,label\n" + b"x" * 5000 + b",cat\n", "xxx...' does not exist."),
        (b"image,label\nhttps://example.org/0.png,cat\n", "line 2: 'https://example.org/0.png' is an address"),
        (b"image\tlabel\n0.png\tcat\n", "the columns are not separated by commas"),
        (b"\n\n", "no column 'image'"),
    ],
)
def test_a_damaged_table_is_refused_in_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    table(tmp_path, "").write_bytes(content)
    assert words in refusal(tmp_path)


def test_lines_above_the_header_and_a_second_mark_are_passed_over(tmp_path: Path) -> None:
    table(tmp_path, "\n\ufeff\ufeffimage,label\n0.png,cat\n\n9.png,dog\n")
    assert "line 5: image '9.png' does not exist" in refusal(tmp_path)


def test_the_notes_of_a_table_are_the_notes_of_its_data(tmp_path: Path) -> None:
    table(tmp_path, rows("Image,label", *["cat", "dog"] * 4))
    dataset, _ = load_dataset(str(tmp_path), short_side_px=8, cache_dir=None)
    assert dataset.notes == ("Column 'Image' is taken as 'image'.",)
