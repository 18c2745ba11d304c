"""The json of the VGG Image Annotator, version 1 and 2: a project, or exported annotations. Its csv is `via_csv.py`.

Format: robots.ox.ac.uk/~vgg/software/via. A class is the value of an attribute that the user has named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.data.tools.fill import ellipse, rectangle
from trainables.data.tools.gathered import Annotated, Gathered, split_in
from trainables.data.tools.shapes import Shape, box, is_number, polygon
from visionsweep.core.errors import DataError
from visionsweep.core.files import read_object, short
from visionsweep.core.words import quoted

NO_AREA = ("point", "polyline", "line")
CLASS_NAMES = ("class", "label", "category", "type", "name", "object")  # of attributes, where there are several
OF_VIA = ("caption", "public_domain", "image_url")  # attributes of a file that every new project has
NO_ATTRIBUTE = "region"  # the class of areas where nothing was said about any of them


@dataclass(frozen=True)
class Row:
    """What VIA says of an image.

    where    the file and the place in it, for messages
    name     as VIA has it
    of_file  its file_attributes
    regions  each with what messages call it
    """

    where: str
    name: object
    of_file: object
    regions: tuple[tuple[str, Any], ...]


def read_via(found: Gathered, files: Sequence[Path]) -> None:
    """Add the images of VIA's files. Raises DataError."""
    found.tool = "VIA"
    for file in files:
        called = found.called(file)
        content = read_object(file, "Export it anew.", DataError)
        rows = content.get("_via_img_metadata", content)
        if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
            raise found.error(called, f"must have an object for each image, got {short(rows)}")
        images = [
            Row(
                f"{called}, image {short(row.get('filename'))}",
                row.get("filename"),
                row.get("file_attributes"),
                tuple((f"region {number}", region) for number, region in enumerate(_regions(row), 1)),
            )
            for row in rows.values()
        ]
        add_images(found, called, images, split_of_file(found, called, files))


def split_of_file(found: Gathered, called: str, files: Sequence[Path]) -> str:
    """Return the split that a file's path names, '' unless there are several files and each names one."""
    splits = [split_in(found.called(file)) for file in files]
    return split_in(called) if len(files) > 1 and all(splits) else ""


def add_images(found: Gathered, called: str, images: Sequence[Row], split: str) -> None:
    """Add the images of one file, once the attribute that names their classes is known. Raises DataError."""
    of_regions = _attributes(region.get("region_attributes") if isinstance(region, dict) else None
                             for row in images for _, region in row.regions)  # fmt: skip
    attribute = _class_attribute(found, called, "regions", of_regions)
    of_files = [{name: value for name, value in one.items() if name not in OF_VIA}
                for one in _attributes(row.of_file for row in images)]  # fmt: skip
    file_attribute = "" if of_regions else _class_attribute(found, called, "files", of_files)
    if of_regions and not attribute:
        found.notes.append(f"No region has an attribute, so all areas are of one class, '{NO_ATTRIBUTE}'.")
    for row in images:
        with found.image_at(row.where):
            image = found.find(row.name, called.rpartition("/")[0], split)
            shapes = []
            for place, region in row.regions:
                try:
                    shape = _shape(region, attribute)
                except DataError as error:
                    raise DataError(f"{place}: {error}") from None
                if shape is None:
                    found.left_out[str(region["shape_attributes"]["name"])] += 1
                else:
                    shapes.append(shape)
            own = row.of_file
            labels = _chosen(own.get(file_attribute)) if file_attribute and isinstance(own, dict) else []
            found.add(Annotated(image, called, tuple(shapes), tuple(labels), split), called)


def _regions(row: dict[str, Any]) -> list[Any]:
    regions = row.get("regions") or []
    return list(regions.values()) if isinstance(regions, dict) else regions if isinstance(regions, list) else [None]


def _attributes(rows: Iterable[Any]) -> list[dict[str, Any]]:
    return [row if isinstance(row, dict) else {} for row in rows]


def _class_attribute(found: Gathered, called: str, whose: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the attribute that names the classes, '' if there is none. Raises DataError if it could be several."""
    filled = list(dict.fromkeys(name for row in rows for name, value in row.items() if _is_filled(value)))
    known = [name for name in filled if name.lower() in CLASS_NAMES]
    if len(filled) <= 1 or len(known) == 1:
        name = (known or filled or [""])[0]
        if len(filled) > 1:
            others = [one for one in filled if one != name]
            found.notes.append(f"The attribute '{name}' names the classes of {whose}, not {quoted(others)}.")
        return name
    raise found.error(
        called, f"its {whose} have the attributes {quoted(filled)}, and one of them must name the classes",
        "Call that one 'class', or remove the others.",
    )  # fmt: skip


def _is_filled(value: object) -> bool:
    return bool(_chosen(value))


def _chosen(value: object) -> list[str]:
    """Return the names that an attribute holds: text, a choice, or each box that is ticked."""
    if isinstance(value, dict):
        return [name for name, is_set in value.items() if is_set is True]
    return [str(value).strip()] if isinstance(value, (str, int)) and str(value).strip() else []


def _shape(region: Any, attribute: str) -> Shape | None:
    """Return an area, or None for what has none. Raises DataError."""
    own = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(own, dict) or not isinstance(own.get("name"), str):
        raise DataError("it must be an object with shape_attributes and the name of a shape")
    kind = own["name"]
    if kind in NO_AREA:
        return None
    said = region.get("region_attributes")
    labels = _chosen(said.get(attribute)) if isinstance(said, dict) else []
    labels = labels if attribute else [NO_ATTRIBUTE]
    if len(labels) != 1:
        raise DataError(f"its attribute '{attribute}' must name one class, got {quoted(labels) or 'none'}")
    label = labels[0]
    if kind == "polygon":
        x = own.get("all_points_x")
        y = own.get("all_points_y")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise DataError("a polygon must have as many all_points_x as all_points_y")
        return polygon(label, [[value for point in zip(x, y, strict=True) for value in point]])
    if kind == "rect":
        left, top, width, height = _numbers(own, "x", "y", "width", "height")
        return box(label, rectangle(left, top, left + width, top + height))
    if kind == "circle":
        x, y, radius = _numbers(own, "cx", "cy", "r")
        return polygon(label, [ellipse((x, y), (radius, radius))])
    if kind == "ellipse":
        x, y, x_radius, y_radius = _numbers(own, "cx", "cy", "rx", "ry")
        angle = math.degrees(own["theta"]) if is_number(own.get("theta")) else 0.0
        return polygon(label, [ellipse((x, y), (x_radius, y_radius), angle)])
    raise DataError(f"{short(kind)} is no shape of VIA")


def _numbers(own: dict[str, Any], *names: str) -> list[Any]:
    wrong = next((name for name in names if not is_number(own.get(name))), None)
    if wrong is not None:
        raise DataError(f"its '{wrong}' must be a number, got {short(own.get(wrong))}")
    return [own[name] for name in names]
