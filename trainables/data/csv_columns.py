"""Find which columns of a table are the image, the labels, the split, classes, or none of these."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from trainables.data.reading import IMAGE_SUFFIXES
from visionsweep.core.errors import DataError
from visionsweep.core.names import did_you_mean
from visionsweep.core.words import quoted

COLUMNS = "A table has `image`, then `label`, or `labels` ('cat|dog'), or one 0/1 column per class; and maybe `split`."
SPECIAL = ("image", "label", "labels", "split")
# What other tools call them. They are offered and not taken: `id` or `class` may mean something else.
ALSO_CALLED = {
    "image": (
        "filename", "file_name", "fname", "file", "path", "filepath", "file_path", "image_path", "img_path", "img",
        "image_file", "image_name", "img_name", "image_id", "img_id", "images", "photo", "picture", "name", "id",
    ),
    "label": ("class", "category", "target", "class_name", "label_name", "class_id", "label_id", "y"),
    "labels": ("tags", "tag", "classes", "categories", "targets", "attributes"),
    "split": ("set", "subset", "partition", "phase", "usage", "dataset"),
}  # fmt: skip
INDEX = ("index", "idx", "id", "row", "row_id", "no", "nr", "number", "#")
FOLDS = ("fold", "folds", "kfold", "k_fold", "cv", "cv_fold", "fold_id", "skfold")
_UNNAMED = re.compile(r"unnamed: \d+([._].*)?", re.IGNORECASE)  # pandas' name for a column without one
_INTEGER = re.compile(r"-?\d+(\.0+)?")


def checked_columns(spec: str, header: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns, with image, label, labels and split as written here, and notes. Raises DataError without `image`."""
    if len(header) == 1 and _joined(header[0]):
        raise DataError(
            f"{spec}, line 1: the columns are not separated by commas ({header[0]!r}). Save it with commas."
        )
    columns = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
    notes = []
    for wanted in SPECIAL:
        same = [name for name in columns if name.lower() == wanted]
        if wanted not in columns and len(same) == 1:
            columns[columns.index(same[0])] = wanted
            notes.append(f"Column '{same[0]}' is taken as '{wanted}'.")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(f"{spec}, line 1: column {quoted(twice)} stands there twice. Remove or rename one.")
    if "image" not in columns:
        raise DataError(f"{spec}, line 1: no column 'image'. {_without_image(columns)} {COLUMNS}")
    return columns, notes


def offered(columns: Sequence[str], wanted: Sequence[str]) -> str:
    """Return a sentence that offers the first column with a common other name for one of `wanted`, or ''."""
    for name in wanted:
        for other in ALSO_CALLED[name]:
            for column in columns:
                if _plain(column) == other:
                    return f"Is it '{column}'? Rename it to '{name}'."
    return ""


def is_flag_of_a_split(column: str) -> bool:
    """Whether a column flags the images of one side of the split, as fastai's `is_valid` does."""
    return re.fullmatch(r"(is_?|in_)(train|val|valid|test)", _plain(column)) is not None


def left_out(
    spec: str, columns: Sequence[str], cells_of: Callable[[str], list[str]], *, by_columns: bool
) -> tuple[list[str], list[str]]:
    """Return the columns without row numbers and folds, and a note for each that is left out.

    by_columns: whether every remaining column is a class. Then a fold of 0 and 1 could be one.
    """
    kept = []
    notes = []
    for column in columns:
        suspect = _UNNAMED.fullmatch(column) or _plain(column) in (*INDEX, *FOLDS)
        cells = cells_of(column) if suspect else []  # a table may have a thousand classes
        if not suspect:
            kept.append(column)
        elif _UNNAMED.fullmatch(column):
            is_class = by_columns and len(cells) > 2 and set(cells) <= {"0", "1"}
            if is_class or not all(not cell or _INTEGER.fullmatch(cell) for cell in cells):
                raise DataError(f"{spec}, line 1: column {columns.index(column) + 1} has no name. Name or remove it.")
            if any(cells):
                notes.append(f"Column {columns.index(column) + 1} is left out: it has no name and numbers the rows.")
        elif _plain(column) in INDEX and _counts(cells):
            notes.append(f"Column '{column}' is left out: it numbers the rows.")
        elif _plain(column) in FOLDS and cells and all(_INTEGER.fullmatch(cell) for cell in cells):
            if by_columns and set(map(float, cells)) <= {0, 1}:
                raise DataError(
                    f"{spec}, line 1: column '{column}' holds only 0 and 1, so it could be a class or a fold. "
                    "Rename it where it is a class, or remove it."
                )
            notes.append(f"Column '{column}' is left out: folds are not used. Write a column `split` to use one.")
        else:
            kept.append(column)
    return kept, notes


def _counts(cells: Sequence[str]) -> bool:
    """Whether the cells are 0, 1, 2, ... or 1, 2, 3, ... in any order. Two rows of 0 and 1 may be a class."""
    if len(cells) < 3 or not all(cell.isdecimal() for cell in cells):
        return False
    numbers = sorted(map(int, cells))
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _joined(cell: str) -> bool:
    """Whether a header of one cell holds several columns, with something else than commas between them."""
    if ";" in cell or "\t" in cell:
        return True
    names = {name.lower() for name in re.split(r"[|\s]+", cell)}
    return len(names) > 1 and not names.isdisjoint(SPECIAL)


def _without_image(columns: Sequence[str]) -> str:
    image = next((name for name in columns if name.lower().endswith(IMAGE_SUFFIXES)), None)
    if image is not None:
        return f"The first row is '{image}' already. Write the names of the columns above it."
    if columns[:1] and columns[0].lower().startswith("sep="):
        return f"'{columns[0]}' is a hint to Excel. Remove the line."
    near = [name for name in columns if did_you_mean(name, ["image"]).startswith("Did")]
    if offer := offered(columns, ["image"]):
        return offer
    return f"Is it '{near[0]}'? Rename it." if near else f"Found: {quoted(columns)}."


def _plain(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.lower())
