"""Label Studio's export "JSON": polygons, brushes, ellipses, rectangles and choices.

Format: labelstud.io/guide/export.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from trainables.data.reading import IMAGE_SUFFIXES
from trainables.data.tools.fill import ellipse, rectangle, turned
from trainables.data.tools.gathered import Annotated, Gathered
from trainables.data.tools.shapes import Shape, box, is_number, is_size, polygon
from visionsweep.core.errors import DataError
from visionsweep.core.files import read_json, short
from visionsweep.core.words import counted, quoted

_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
MOVE = "Export the project from Label Studio as 'JSON'."


def read_label_studio(found: Gathered, files: Sequence[Path]) -> None:
    """Add the images of finished tasks. Of several annotations the latest counts. Raises DataError."""
    found.tool = "Label Studio"
    found.every_labelled = True  # a task without an annotation is left out
    num_several = 0
    questions: dict[str, None] = {}
    for file in files:
        called = found.called(file)
        tasks = read_json(file, MOVE, DataError)
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise found.error(called, f"must hold a list of tasks, got {short(tasks)}", MOVE)
        if not any("annotations" in task or "completions" in task for task in tasks):
            raise found.error(called, "is an export as 'JSON-MIN', which lacks what is needed", MOVE)
        for task in tasks:
            with found.image_at(f"{called}, task {short(task.get('id'))}"):
                image = _image(found, task, called.rpartition("/")[0])
                finished = _finished(task)
                num_several += len(finished) > 1
                if not finished:
                    found.unlabelled.append(image)
                    continue
                questions |= dict.fromkeys(_questions(finished[-1]))
                found.add(_annotated(found, image, called, finished[-1]), called)
    if num_several:
        found.notes.append(f"{counted(num_several, 'task')} with several annotations: the latest of each is read.")
    if len(questions) > 1:
        found.notes.append(f"Choices of {quoted(list(questions))} are labels of an image together.")


def _finished(task: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the results of each annotation that counts, the one to read last. Raises DataError."""
    rows = task.get("annotations", task.get("completions")) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"its annotations must be a list of objects, got {short(rows)}")
    rows = [row for row in rows if not row.get("was_cancelled")]
    rows = sorted(rows, key=lambda row: (row.get("ground_truth") is True, str(row.get("updated_at", ""))))
    results = [row.get("result") or [] for row in rows]
    if not all(isinstance(one, list) and all(isinstance(item, dict) for item in one) for one in results):
        raise DataError("the result of an annotation must be a list of objects")
    return results


def _questions(result: Sequence[dict[str, Any]]) -> list[str]:
    return [str(one.get("from_name")) for one in result if one.get("type") == "choices"]


def _annotated(found: Gathered, image: str, called: str, result: Sequence[dict[str, Any]]) -> Annotated:
    shapes = []
    labels: dict[str, None] = {}
    sizes = set()
    for number, one in enumerate(result, 1):
        kind = one.get("type")
        value = one.get("value")
        if not isinstance(kind, str) or not isinstance(value, dict):  # a relation of two regions
            continue
        try:
            if kind == "choices" and not {"x", "points", "rle"} & set(value):  # of the image, not of a region
                labels |= dict.fromkeys(_names(value, kind))
            elif kind.endswith("labels"):
                shape = _shape(kind, value, one)
                if shape is None:
                    found.left_out[kind] += 1
                    continue
                shapes.append(shape)
                sizes.add(_size(one))
        except DataError as error:
            raise DataError(f"region {number} ({kind}): {error}") from None
    if len(sizes) > 1:
        raise DataError("its regions are of images of several sizes")
    return Annotated(image, called, tuple(shapes), tuple(labels), "", next(iter(sizes), (0, 0)))


def _shape(kind: str, value: dict[str, Any], one: dict[str, Any]) -> Shape | None:
    """Return an area, or None for what has none. Coordinates are percents of the image."""
    height, width = _size(one)
    if one.get("image_rotation"):
        raise DataError("the image was turned while it was annotated, which is not read")
    names = _names(value, kind)
    if len(names) != 1:
        raise DataError(f"a region must have one label, got {quoted(names) or 'none'}")
    label = names[0]
    if "points" in value:
        points = value["points"]
        if not isinstance(points, list) or not all(
            isinstance(point, list) and len(point) == 2 and all(map(is_number, point)) for point in points
        ):
            raise DataError(f"its points must be pairs of numbers, got {short(points)}")
        return polygon(label, [[part for x, y in points for part in (x * width / 100, y * height / 100)]])
    if "rle" in value:
        if not isinstance(value["rle"], list) or not all(
            isinstance(byte, int) and 0 <= byte < 256 for byte in value["rle"]
        ):
            raise DataError(f"its RLE must be a list of bytes, got {short(value['rle'])}")
        return Shape(label, "brush", [value["rle"], height, width])
    numbers = {name: part for name, part in value.items() if is_number(part)}
    angle = numbers.get("rotation", 0)
    x = numbers.get("x", 0) * width / 100
    y = numbers.get("y", 0) * height / 100
    if {"x", "y", "radiusX", "radiusY"} <= set(numbers):
        radii = (numbers["radiusX"] * width / 100, numbers["radiusY"] * height / 100)
        return polygon(label, [ellipse((x, y), radii, angle)])
    if {"x", "y", "width", "height"} <= set(numbers) and kind != "keypointlabels":
        ring = rectangle(x, y, x + numbers["width"] * width / 100, y + numbers["height"] * height / 100)
        return box(label, turned(ring, (x, y), angle) if angle else ring)
    if kind == "keypointlabels":
        return None
    raise DataError("its area is stored in a way that is not read (bitmask, video or text)")


def _size(one: dict[str, Any]) -> tuple[int, int]:
    size = (one.get("original_height"), one.get("original_width"))
    if not all(map(is_size, size)):
        raise DataError(f"its original_height and original_width must be pixels, got {', '.join(map(short, size))}")
    return int(size[0]), int(size[1])  # type: ignore[arg-type]


def _names(value: dict[str, Any], kind: str) -> list[str]:
    names = value.get(kind) or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f"its '{kind}' must be a list of names, got {short(names)}")
    return names


def _image(found: Gathered, task: dict[str, Any], folder: str) -> str:
    """Return the image below the root. Label Studio keeps an address, perhaps of its own storage."""
    data = task.get("data")
    values = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    paths = [path for path in map(_path, values) if path.lower().endswith(IMAGE_SUFFIXES)]
    if not paths:
        raise DataError(f"its data names no image, got {short(next(iter(values), None))}")
    *folders, name = paths[0].split("/")
    try:
        return found.find(paths[0], folder)
    except DataError:
        if not _UPLOADED.match(name):
            raise
        return found.find("/".join([*folders, _UPLOADED.sub("", name, count=1)]), folder)


def _path(address: str) -> str:
    """Return the path in an address: of '/data/local-files/?d=pets/a.jpg' it is 'pets/a.jpg'."""
    try:
        parts = urlsplit(address)
    except ValueError:  # brackets that are no address of version 6
        return address
    return parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
