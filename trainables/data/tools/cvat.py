"""CVAT's xml, "CVAT for images 1.1": polygons, masks, ellipses, boxes and tags.

Format: docs.cvat.ai, "XML annotation format".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from trainables.data.split_names import split_of
from trainables.data.tools.fill import ellipse, rectangle, turned
from trainables.data.tools.gathered import Annotated, Gathered
from trainables.data.tools.shapes import Shape, box, is_number, is_size, polygon
from visionsweep.core.errors import DataError
from visionsweep.core.files import one_line, read_bytes, short
from visionsweep.core.words import quoted

Attributes = Mapping[str, str]
NO_AREA = ("polyline", "points", "cuboid", "skeleton")
MOVE = "Export the task from CVAT as 'CVAT for images 1.1'."


@dataclass
class _Document:
    """What the xml holds: names of labels, and each image with what is drawn on it."""

    labels: list[str] = field(default_factory=list)
    images: list[tuple[Attributes, list[tuple[str, Attributes]]]] = field(default_factory=list)
    num_tracks: int = 0


def read_cvat(found: Gathered, files: Sequence[Path]) -> None:
    """Add the images of CVAT's files. What lies higher there (z_order) lies higher in the mask. Raises DataError."""
    found.tool = "CVAT"
    classes: dict[str, None] = {}
    for file in files:
        called = found.called(file)
        document = _parsed(found, called, read_bytes(file, MOVE, DataError))
        if not document.images:
            why = "holds tracks of a video" if document.num_tracks else "has no images"
            raise found.error(called, why, MOVE)
        classes |= dict.fromkeys(document.labels)
        folder = called.rpartition("/")[0]
        for attributes, drawn in document.images:
            name = attributes.get("name", "")
            with found.image_at(f"{called}, image '{name}'"):
                size = _whole(attributes, "image", "height", "width")
                split = split_of(attributes.get("subset", "")) or ""
                ordered = sorted(drawn, key=lambda one: _level(one[1]))  # stable: then by their order in the file
                shapes = []
                for number, (tag, own) in enumerate(ordered, 1):
                    if tag in NO_AREA:
                        found.left_out[tag] += 1
                    elif tag != "tag":
                        shapes.append(_shape(number, tag, own, document.labels))
                tags = tuple(_label("tag", own, document.labels) for tag, own in drawn if tag == "tag")
                image = found.find(name, folder, split)
                found.add(Annotated(image, called, tuple(shapes), tags, split, (size[0], size[1])), called)
    found.classes = tuple(classes)


def _parsed(found: Gathered, called: str, content: bytes) -> _Document:
    document = _Document()
    path: list[str] = []
    text: list[str] = []

    def refuse(*_: object) -> None:
        raise ValueError("it declares entities, which CVAT does not")

    def start(tag: str, attributes: Attributes) -> None:
        if path[-1:] == ["image"]:
            document.images[-1][1].append((tag, attributes))
        elif tag == "image":
            document.images.append((attributes, []))
        document.num_tracks += tag == "track"
        path.append(tag)
        text.clear()

    def end(tag: str) -> None:
        if path[-3:] == ["labels", "label", "name"]:
            document.labels.append("".join(text).strip())
        path.pop()

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse  # entities could make gigabytes of a few lines
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError) as error:
        raise found.error(called, f"is no xml that can be read ({one_line(error)})", MOVE) from None
    if len(set(document.labels)) < len(document.labels):
        document.labels = list(dict.fromkeys(document.labels))  # each job of a task names them anew
    return document


def _shape(number: int, tag: str, own: Attributes, labels: Sequence[str]) -> Shape:
    try:
        label = _label(tag, own, labels)
        if tag == "polygon":
            return polygon(label, [_points(own.get("points", ""))])
        if tag == "box":
            left, top, right, bottom = _numbers(own, tag, "xtl", "ytl", "xbr", "ybr")
            ring = rectangle(left, top, right, bottom)
            angle = _angle(own, tag)
            return box(label, turned(ring, ((left + right) / 2, (top + bottom) / 2), angle) if angle else ring)
        if tag == "ellipse":
            x, y, x_radius, y_radius = _numbers(own, tag, "cx", "cy", "rx", "ry")
            return polygon(label, [ellipse((x, y), (x_radius, y_radius), _angle(own, tag))])
        if tag == "mask":
            height, width = _whole(own, tag, "height", "width")
            top, left = map(int, _numbers(own, tag, "top", "left"))
            counts = [int(one) for one in own.get("rle", "").split(",")]
            return Shape(label, "cvat", [counts, top, left, height, width])
        raise DataError(f"a '{tag}' is no shape that is known")
    except ValueError as error:  # of int() and float(); a DataError says itself what is wrong
        raise DataError(f"annotation {number} ({tag}): it holds what is no number ({one_line(error)})") from None
    except DataError as error:
        raise DataError(f"annotation {number} ({tag}): {error}") from None


def _label(tag: str, own: Attributes, labels: Sequence[str]) -> str:
    label = own.get("label", "").strip()
    if not label or (labels and label not in labels):
        raise DataError(f"the label of a {tag} is {short(label)}, and the task has {quoted(labels) or 'none'}")
    return label


def _points(text: str) -> list[float]:
    return [float(value) for point in text.split(";") if point for value in point.split(",")]


def _numbers(own: Attributes, tag: str, *names: str) -> list[float]:
    values = [float(own[name]) if name in own else float("nan") for name in names]
    wrong = next((name for name, value in zip(names, values, strict=True) if not is_number(value)), None)
    if wrong is not None:
        raise DataError(f"its '{wrong}' must be a number, got {short(own.get(wrong))}")
    return values


def _angle(own: Attributes, tag: str) -> float:
    return _numbers(own, tag, "rotation")[0] if "rotation" in own else 0.0


def _whole(own: Attributes, tag: str, *names: str) -> list[int]:
    try:
        values = _numbers(own, tag, *names)
    except ValueError:
        values = [0.0]
    if not all(map(is_size, values)):
        said = ", ".join(short(own.get(name)) for name in names)
        raise DataError(f"its {' and '.join(names)} must be numbers of pixels, got {said}")
    return [int(value) for value in values]


def _level(own: Attributes) -> int:
    text = own.get("z_order", "0")
    return int(text) if text.lstrip("-").isdecimal() else 0
