"""labelme's json: a file for each image. Format: labelme/_label_file.py of labelme 6.3, read by its keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.data.mask_names import read_names
from trainables.data.split_names import split_of
from trainables.data.tools.fill import ellipse, rectangle
from trainables.data.tools.gathered import Annotated, Gathered
from trainables.data.tools.shapes import Shape, box, is_number, is_size, polygon
from trainables.data.walk import files_below
from visionsweep.core.errors import DataError
from visionsweep.core.files import read_object, short
from visionsweep.core.words import counted, quoted

LINES = ("line", "linestrip", "point", "points")  # they mark something, but have no area


def read_labelme(found: Gathered, files: Sequence[Path]) -> None:
    """Add the images of labelme's files, which are all below the folders of `files`. Raises DataError."""
    found.tool = "labelme"
    found.every_labelled = True  # a file is there once somebody has saved it
    folders = dict.fromkeys(file.parent for file in files)
    if len(files) > 1 or files[0].parent != found.root:
        below = {name for folder in folders for name in files_below(found.root, folder, (".json",))}
        files = [found.root / name for name in sorted(below | {found.called(file) for file in files})]
    others = []
    for file in files:
        called = found.called(file)
        with found.image_at(called):
            content = read_object(file, "Save it anew.", DataError)
            if "shapes" not in content and "imagePath" not in content:
                others.append(called)
                continue
            found.add(_image(found, called, content), called)
    if others:
        found.notes.append(f"{counted(len(others), 'json file')} left out, not labelme's: {quoted(others)}.")
    annotated = {one.image for one in found.images}
    found.unlabelled = [] if found.bad else [name for name in found.on_disk if name not in annotated]
    _order(found)


def _image(found: Gathered, called: str, content: dict[str, Any]) -> Annotated:
    shapes = content.get("shapes")
    size = (content.get("imageHeight"), content.get("imageWidth"))
    if not isinstance(shapes, list) or not all(isinstance(one, dict) for one in shapes):
        raise DataError(f"must have a list of objects called 'shapes', got {short(shapes)}")
    if size != (None, None) and not all(map(is_size, size)):
        raise DataError(
            f"its imageWidth and imageHeight must be numbers of pixels, got {short(size[1])}, {short(size[0])}"
        )
    flags = content.get("flags") or {}
    if not isinstance(flags, dict):
        raise DataError(f"its flags must be an object, got {short(flags)}")
    drawn = []
    for number, one in enumerate(shapes, 1):
        try:
            shape = _shape(one)
        except DataError as error:
            raise DataError(f"shape {number}: {error}") from None
        if shape is None:
            found.left_out[str(one["shape_type"])] += 1
        else:
            drawn.append(shape)
    folder = called.rpartition("/")[0]
    splits = [split_of(part) for part in folder.split("/")]
    labels = tuple(name for name, is_set in flags.items() if is_set is True)
    height, width = (0, 0) if size == (None, None) else (int(size[0]), int(size[1]))  # type: ignore[arg-type]
    return Annotated(
        image=found.find(content.get("imagePath"), folder),
        file=called,
        shapes=tuple(drawn),
        labels=labels,
        split=next((split for split in reversed(splits) if split), ""),
        size=(height, width),
    )


def _shape(one: dict[str, Any]) -> Shape | None:
    """Return an area, or None for lines and points. Raises DataError."""
    label = one.get("label")
    kind = one.get("shape_type") or "polygon"  # older versions leave it out
    points = one.get("points")
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"its label must be a name, got {short(label)}")
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 and all(map(is_number, point)) for point in points
    ):
        raise DataError(f"'{label}' must have points [x, y], got {short(points)}")
    if kind in LINES:
        return None
    if kind in ("rectangle", "circle", "mask") and len(points) != 2 and not (kind == "rectangle" and len(points) == 4):
        raise DataError(f"'{label}' is a {kind} of {len(points)} points, and needs 2")
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return box(label, rectangle(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return polygon(label, [ellipse((x, y), (radius, radius))])
    if kind == "mask":
        content = one.get("mask")
        if not isinstance(content, str):
            raise DataError(f"'{label}' is a mask without its picture, got {short(content)}")
        (left, top), _ = points
        return Shape(label, "png", [content, int(top), int(left)])
    if kind not in ("polygon", "rectangle", "oriented_rectangle", "rotation"):
        raise DataError(f"'{label}' is a {short(kind)}, which is no shape of labelme")
    return polygon(label, [[value for point in points for value in point]])


def _order(found: Gathered) -> None:
    """Take the order of the classes from the list that labelme was given, if it stands in the folder."""
    lines = read_names(found.spec, found.root, [""]).lines
    used = {shape.label for one in found.images for shape in one.shapes}
    unlisted = sorted(used - {*lines, "_background_", "__ignore__"})
    if lines and not unlisted:
        found.classes = lines
    elif lines:
        found.notes.append(
            f"The list of labels lacks {quoted(unlisted)}, so the classes are in the order of their names."
        )
