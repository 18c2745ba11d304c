"""YOLO's label files: one for each image, a line for each object. Format: docs.ultralytics.com/datasets/segment.

A line is the class's number, then a polygon as fractions of the image's width and height. Four numbers are a box.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.data.mask_names import LINE_FILES, read_lines, read_names
from trainables.data.tools.gathered import Annotated, Gathered, split_in
from trainables.data.tools.shapes import BOX, Shape, polygon
from trainables.data.walk import files_below, visible
from visionsweep.core.errors import DataError
from visionsweep.core.files import read_yaml, short
from visionsweep.core.words import below, counted, quoted

CONFIGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
SLACK = 0.01  # that a point may lie outside of the image: annotation tools round


def read_yolo(found: Gathered, files: Sequence[Path]) -> None:
    """Add the images that have label files. An image without one shows nothing, if others beside it have theirs."""
    found.tool = "YOLO"
    found.box_is_area = False
    found.every_labelled = True
    folders = {file.parent for file in files}
    labels = {name for folder in folders for name in files_below(found.root, folder, (".txt",))}
    config_name, config = _config(found)
    names = _names(found, config_name, config)
    split_of = _splits(found, config_name, config)
    beside = {name.rpartition("/")[0] for name in labels}
    used = set()
    numbers: set[int] = set()
    for image in found.on_disk:
        file = _label_file(image)
        if file not in labels:
            if file.rpartition("/")[0] in beside:  # as YOLO takes it
                found.add(Annotated(image, file, split=split_of.get(image, "")), file)
            else:
                found.unlabelled.append(image)
            continue
        used.add(file)
        with found.image_at(file):
            shapes = []
            for line, text in enumerate(read_lines(found.spec, found.root / file, file), 1):
                if text.strip():
                    number, shape = _row(text, line, names)
                    numbers.add(number)
                    shapes.append(shape)
            found.add(Annotated(image, file, tuple(shapes), split=split_of.get(image, "")), file)
    lone = sorted(name for name in labels - used if Path(name).name not in (*LINE_FILES, "labels.txt"))
    lone = [name for name in lone if split_in(name) == "" or "labels" in name.split("/")]
    if lone and not used:
        stem = lone[0].replace("labels", "images").removesuffix(".txt")
        raise found.error(lone[0], f"no label file has an image: this one's would be '{stem}.jpg'", "Move the images.")
    if lone:
        found.notes.append(f"{counted(len(lone), 'label file')} left out, without an image: {quoted(lone)}.")
    if names is None:
        names = {number: f"class {number}" for number in range(max(numbers, default=0) + 1)}
        found.notes.append("No data.yaml or classes.txt names the classes: they are called 'class 0' and so on.")
    found.classes = tuple(names.values())


def _label_file(image: str) -> str:
    """Return an image's label file: the last folder 'images' of its path is 'labels' there."""
    folders = image.split("/")[:-1]
    stem = posixpath.splitext(image.rpartition("/")[2])[0]
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        folders[last] = "labels"
    return "/".join([*folders, f"{stem}.txt"])


def _row(text: str, line: int, names: dict[int, str] | None) -> tuple[int, Shape]:
    """Return the class's number and the shape of a line. Raises DataError."""
    try:
        first, *rest = text.split()
        number = int(float(first)) if float(first).is_integer() else -1
        values = [float(value) for value in rest]
    except (ValueError, OverflowError):
        raise DataError(f"line {line} must be a class's number and coordinates, got {short(text)}") from None
    if number < 0 or (names is not None and number not in names):
        known = "" if names is None else f", and there are {len(names)}"
        raise DataError(f"line {line}: {first} is no number of a class{known}")
    wrong = next((value for value in values if not -SLACK <= value <= 1 + SLACK), None)
    if wrong is not None:
        raise DataError(f"line {line}: {wrong:g} is no fraction of the image's width or height, from 0 to 1")
    label = f"class {number}" if names is None else names[number]
    if len(values) == 4:
        return number, Shape(label, BOX)
    try:
        return number, polygon(label, [values], "fractions")
    except DataError as error:
        raise DataError(f"line {line}: {error}") from None


def _config(found: Gathered) -> tuple[str, dict[str, Any]]:
    """Return the name and content of the file that names classes and splits, empty if there is none."""
    here = {entry.name for entry in visible(found.root)}
    for name in CONFIGS:
        if name in here:
            content = read_yaml(found.root / name, "Export it anew.", DataError)
            if not isinstance(content, dict):
                raise found.error(name, f"must have lines 'key: value', got {short(content)}")
            return name, content
    return "", {}


def _names(found: Gathered, config_name: str, config: dict[str, Any]) -> dict[int, str] | None:
    """Return the names by number. None if nothing names the classes."""
    names = config.get("names")
    if names is None:
        lines = read_names(found.spec, found.root, ["", "labels"]).lines
        return dict(enumerate(lines)) or None
    rows = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(rows, dict) or not all(isinstance(number, int) and number >= 0 for number in rows):
        raise found.error(config_name, f"must name the classes by their numbers, got {short(names)}")
    named = {number: str(name).strip() for number, name in sorted(rows.items())}
    if "" in named.values() or len(set(named.values())) < len(named):
        raise found.error(config_name, f"names a class twice, or not at all ({quoted(list(named.values()))})")
    return named


def _splits(found: Gathered, config_name: str, config: dict[str, Any]) -> dict[str, str]:
    """Return the split of each image: what data.yaml says, or else the names of its folders."""
    of: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        entries = config.get(split) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            for image in _images_of(found, config_name, str(entry)):
                of.setdefault(image, set()).add(split)
    if any(len(splits) > 1 for splits in of.values()):
        found.notes.append(f"{config_name} gives images to two splits, so the split is drawn.")
        return {}
    by_folder = {image: split_in(f"{image.rpartition('/')[0]}/") for image in found.on_disk}
    by_config = {image: splits.pop() for image, splits in of.items()}
    return by_config if "train" in by_config.values() else by_folder


def _images_of(found: Gathered, config_name: str, entry: str) -> list[str]:
    """The images of a folder or a list that data.yaml names. Folders of other machines have none."""
    parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    name = "/".join(parts)
    if name.endswith(".txt"):
        if not (found.root / name).is_file():
            raise found.error(config_name, f"names '{below(found.spec, name)}', which does not exist", "Add it.")
        lines = [line.strip() for line in read_lines(found.spec, found.root / name, name)]
        return [found.find(line, "") for line in lines if line]
    return [image for image in found.on_disk if image.startswith(f"{name}/")]
