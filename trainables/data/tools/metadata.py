"""metadata.jsonl and metadata.csv, as Hugging Face's `imagefolder` reads them: `file_name` and its labels.

Format: huggingface.co/docs/datasets/image_dataset. `label` is one class, `labels` several, `objects` what is detected.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trainables.data.mask_names import read_lines
from trainables.data.split_names import split_of
from trainables.data.tools.gathered import Annotated, Gathered
from visionsweep.core.errors import DataError
from visionsweep.core.files import parse_json, short
from visionsweep.core.words import below, quoted

METADATA = ("metadata.jsonl", "metadata.csv")
KEYS = ("label", "labels", "objects")


def read_metadata(found: Gathered, files: Sequence[Path]) -> None:
    """Add the images of these files, which stand in the root or in each split. Raises DataError."""
    found.tool = "Hugging Face's imagefolder"
    several = False
    for file in files:
        called = found.called(file)
        folder = called.rpartition("/")[0]
        split = split_of(folder.rpartition("/")[2]) or "" if len(files) > 1 else ""
        key = ""
        for line, row in _rows(found, file, called):
            with found.image_at(f"{called}, line {line}"):
                if not isinstance(row, dict):
                    raise DataError(f"it must be an object, got {short(row)}")
                key = key or next((one for one in KEYS if one in row), "")
                if not key:
                    raise DataError(f"it has none of {quoted(KEYS)}, but {quoted(list(row))}")
                several |= key != "label"
                image = found.find(row.get("file_name"), folder, split)
                labels = _labels(row.get(key), key)
                if labels is None:
                    found.unlabelled.append(image)
                else:
                    found.add(Annotated(image, called, (), labels, split or _split_of(image, folder)), called)
    found.several_labels = several


def _split_of(image: str, folder: str) -> str:
    """The split of an image whose file of labels stands above the folders of the splits."""
    inner = image.removeprefix(f"{folder}/") if folder else image
    return (split_of(inner.split("/")[0]) or "") if "/" in inner else ""


def _rows(found: Gathered, file: Path, called: str) -> Iterator[tuple[int, Any]]:
    lines = read_lines(found.spec, file, called)
    if file.suffix.lower() == ".csv":
        yield from enumerate(csv.DictReader(lines, skipinitialspace=True), 2)
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, parse_json(line)
            except ValueError as error:
                raise DataError(
                    f"{below(found.spec, called)}, line {number}: is no JSON ({error}). Write an object on each line."
                ) from None


def _labels(value: Any, key: str) -> tuple[str, ...] | None:
    """Return the labels of an image, None where it has not been labelled. Raises DataError."""
    if value is None or (key == "label" and value == ""):
        return None
    names = [value] if key == "label" else value
    if key == "objects" and isinstance(value, dict):
        names = next((value[one] for one in ("categories", "category", "label") if one in value), None)
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) and str(name).strip() for name in names):
        raise DataError(f"its '{key}' must be {'a name' if key == 'label' else 'a list of names'}, got {short(value)}")
    return tuple(dict.fromkeys(str(name).strip() for name in names))
