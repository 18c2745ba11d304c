"""COCO's json: polygons, RLE as counts or as text, and boxes. Format: cocodataset.org/#format-data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.data.tools.gathered import Annotated, Gathered, split_in
from trainables.data.tools.shapes import BOX, Shape, is_number, is_size, polygon
from visionsweep.core.errors import DataError
from visionsweep.core.files import read_object, short
from visionsweep.core.words import below, quoted


def read_coco(found: Gathered, files: Sequence[Path]) -> None:
    """Add the images of files in COCO's format, one for each split. Raises DataError."""
    found.tool = "COCO"
    found.box_is_area = False
    found.every_labelled = True
    names: dict[Any, str] = {}
    used: set[Any] = set()
    above: set[str] = set()
    for file, split in _by_split(found, files).items():
        called = found.called(file)
        content = read_object(file, "Export it anew.", DataError)
        for key in ("images", "annotations", "categories"):
            if not isinstance(content.get(key), list) or not all(isinstance(one, dict) for one in content[key]):
                raise found.error(called, f"must have a list of objects called '{key}', got {short(content.get(key))}")
        own, parents = _categories(found, called, content["categories"])
        above |= parents
        if names and own != names:
            raise found.error(called, f"has other categories ({quoted(list(own.values()))}) than the file before it")
        names = own
        used |= _images(found, file, content, names, split)
    # Roboflow writes the project's name as a category of its own, above all others.
    unused = [name for number, name in names.items() if number not in used and name in above and len(names) > 1]
    if unused:
        found.notes.append(f"Category {quoted(unused)} only groups the others, and is no class.")
    found.classes = tuple(name for name in names.values() if name not in unused)


def _by_split(found: Gathered, files: Sequence[Path]) -> dict[Path, str]:
    """Return each file's split, '' for a file alone. Of several files for one split, that of the instances counts."""
    if len(files) == 1:
        return {files[0]: ""}
    of: dict[str, list[Path]] = {}
    for file in files:
        of.setdefault(split_in(found.called(file)), []).append(file)
    chosen = {}
    for split, several in of.items():
        instances = [file for file in several if file.name.startswith("instances")]
        if len(several) > 1 and len(instances) != 1:
            names = [found.called(file) for file in several]
            raise DataError(
                f"'{found.spec}' has several files of COCO for {split or 'no named split'}: {quoted(names)}. Name one: "
                f"--data {below(found.spec, names[0])}."
            )
        if len(several) > 1:
            found.notes.append(f"'{found.called(instances[0])}' is read of {len(several)} files for its split.")
        chosen[(instances or several)[0]] = split
    if "" in of and len(of) > 1:
        names = [found.called(file) for file in of[""]]
        raise DataError(
            f"'{found.spec}' has {quoted(names)} beside files of COCO for splits. Name train, val or test in it, or "
            f"name one file: --data {below(found.spec, names[0])}."
        )
    return chosen


def _categories(found: Gathered, called: str, rows: Sequence[dict[str, Any]]) -> tuple[dict[Any, str], set[str]]:
    """Return the names by id, in the order of the ids, and the names that stand above others."""
    names: dict[Any, str] = {}
    for row in rows:
        number = row.get("id")
        name = row.get("name")
        if not isinstance(number, int) or not isinstance(name, str) or not name.strip():
            raise found.error(called, f"category {short(number)} must have a number and a name, got {short(name)}")
        if number in names or name in names.values():
            raise found.error(called, f"category {number} ({short(name)}) stands there twice")
        names[number] = name
    above = {str(row["supercategory"]) for row in rows if row.get("supercategory") not in (None, "", row["name"])}
    return dict(sorted(names.items())), above


def _images(found: Gathered, file: Path, content: dict[str, Any], names: dict[Any, str], split: str) -> set[Any]:
    """Add the images of a file. Return the ids of the categories that its annotations use."""
    called = found.called(file)
    folder = called.rpartition("/")[0]
    listed = {row.get("id") if isinstance(row.get("id"), (int, str)) else None for row in content["images"]}
    if None in listed or len(listed) < len(content["images"]):
        raise found.error(called, "each image needs an id of its own")
    of_image: dict[Any, list[dict[str, Any]]] = {}
    used = set()
    for row in content["annotations"]:
        image = row.get("image_id")
        if not isinstance(image, (int, str)) or image not in listed:
            raise found.error(
                called, f"annotation {short(row.get('id'))} is of image {short(image)}, which is not listed"
            )
        of_image.setdefault(image, []).append(row)
        used.add(row.get("category_id") if isinstance(row.get("category_id"), int) else None)
    for row in content["images"]:
        where = f"{called}, image {short(row.get('file_name'))}"
        with found.image_at(where):
            size = (row.get("height"), row.get("width"))
            if not all(map(is_size, size)):
                raise DataError(
                    f"its width and height must be numbers of pixels, got {short(size[1])}, {short(size[0])}"
                )
            shapes = tuple(_shape(one, names) for one in of_image.get(row["id"], ()))
            image = found.find(row.get("file_name"), folder, split)
            found.add(Annotated(image, called, shapes, (), split, (int(size[0]), int(size[1]))), where)
    return used


def _shape(row: dict[str, Any], names: dict[Any, str]) -> Shape:
    number = row.get("category_id")
    try:
        if not isinstance(number, int) or number not in names:
            raise DataError(f"its category {short(number)} is not among the categories")
        label = names[number]
        area = row.get("segmentation")
        if isinstance(area, list) and area:
            return polygon(label, area)
        if isinstance(area, dict):
            counts = area.get("counts")
            size = area.get("size")
            if not isinstance(size, list) or len(size) != 2 or not all(map(is_size, size)):
                raise DataError(f"its RLE needs 'size', height and width, got {short(size)}")
            if not isinstance(counts, str) and not (
                isinstance(counts, list) and all(isinstance(count, int) for count in counts)
            ):
                raise DataError(f"its RLE needs 'counts', text or whole numbers, got {short(counts)}")
            return Shape(label, "coco", [counts, *map(int, size)])
        if area not in (None, []):
            raise DataError(f"its segmentation must be polygons or RLE, got {short(area)}")
        box = row.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            raise DataError(f"it has neither a segmentation nor a box, got {short(box)}")
        return Shape(label, BOX)
    except DataError as error:
        raise DataError(f"annotation {short(row.get('id'))}: {error}") from None
