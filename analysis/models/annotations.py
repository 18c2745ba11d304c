"""Predictions in the formats of annotation tools, to be corrected there instead of drawn.

    coco     OUT/annotations.json    polygons, and RLE for areas with holes
    labelme  OUT/labelme/NAME.json   polygons, and masks for areas with holes; flags for the classes of an image
    cvat     OUT/annotations.xml     likewise, and tags: "CVAT for images 1.1"

What is background is not written. `trainables/data/tools` reads all three.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt
from PIL import Image

from analysis.models.outlines import Area, Bits, areas_of
from trainables.data.tools.as_scan import BACKGROUND
from trainables.data.tools.runs import counts_of_bits
from visionsweep.core.errors import ConfigError, RunError
from visionsweep.core.files import utf8

NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, eq=False)
class Annotated:
    """An image with what was predicted for it. size: (height, width). labels: of the whole image, None for areas."""

    path: Path
    size: tuple[int, int]
    areas: list[Area] = field(default_factory=list)
    labels: list[str] | None = None


class AnnotationWriter:
    """Collects the predictions of images, and writes them for a tool. Raises RunError where that fails."""

    def __init__(self, form: str, out: Path, classes: Sequence[str], *, segments: bool) -> None:
        if form == "coco" and not segments:
            raise ConfigError(
                "--format coco holds areas, and this model predicts classes of whole images. "
                "Pass --format cvat, labelme or csv."
            )
        self.form = form
        self.out = out
        self.classes = classes
        self.images: list[Annotated] = []

    def add_mask(self, path: Path, mask: npt.NDArray[np.uint8]) -> None:
        """Add the areas of a mask (H, W) of class numbers."""
        numbers = [number for number in np.unique(mask).tolist() if self.classes[number] not in BACKGROUND]
        areas = [area for number in numbers for area in areas_of(mask, number)]
        height, width = mask.shape
        self.images.append(Annotated(path, (height, width), areas))

    def add_labels(self, path: Path, size: tuple[int, int], labels: Sequence[str]) -> None:
        """Add the classes of an image of this (height, width)."""
        self.images.append(Annotated(path, size, labels=list(labels)))

    def write(self) -> Path:
        """Write all that was added, and return the file, or the folder of files."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            return FORMS[self.form](self)
        except OSError as error:
            raise RunError(
                f"{self.out}: cannot be written ({error.strerror or error}). Choose another --out."
            ) from None

    def names(self) -> list[str]:
        """Return what files of all images call them: their paths below the folder that they share."""
        folders = [os.path.dirname(os.path.abspath(one.path)) for one in self.images]
        shared = os.path.commonpath(folders) if folders else ""
        return [Path(os.path.relpath(os.path.abspath(one.path), shared)).as_posix() for one in self.images]


def _coco(writer: AnnotationWriter) -> Path:
    drawn = [number for number, name in enumerate(writer.classes) if name not in BACKGROUND]
    images = []
    annotations: list[dict[str, Any]] = []
    for image_id, (one, name) in enumerate(zip(writer.images, writer.names(), strict=True), 1):
        height, width = one.size
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for area in one.areas:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": area.number,
                    "segmentation": [area.ring] if area.bits is None else _whole_rle(area, area.bits, one.size),
                    "area": area.num_pixels,
                    "bbox": list(area.box),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": writer.classes[number], "supercategory": ""} for number in drawn]
    file = writer.out / "annotations.json"
    _write_json(file, {"images": images, "annotations": annotations, "categories": categories})
    return file


def _whole_rle(area: Area, bits: Bits, size: tuple[int, int]) -> dict[str, Any]:
    left, top, width, height = area.box
    whole = np.zeros(size, bool)
    whole[top : top + height, left : left + width] = bits
    return {"size": list(size), "counts": counts_of_bits(whole, by_column=True)}


def _labelme(writer: AnnotationWriter) -> Path:
    folder = writer.out / "labelme"
    folder.mkdir(exist_ok=True)
    taken = set[str]()
    for one in writer.images:
        name = one.path.stem
        while name in taken:  # of images of one name in two folders
            name += "-2"
        taken.add(name)
        height, width = one.size
        _write_json(
            folder / f"{name}.json",
            {
                "version": "6.3.1",  # of labelme, whose keys these are
                "flags": {} if one.labels is None else {label: label in one.labels for label in writer.classes},
                "shapes": [_labelme_shape(writer.classes[area.number], area) for area in one.areas],
                "imagePath": Path(os.path.relpath(os.path.abspath(one.path), os.path.abspath(folder))).as_posix(),
                "imageData": None,
                "imageHeight": height,
                "imageWidth": width,
            },
        )
    return folder


def _labelme_shape(label: str, area: Area) -> dict[str, Any]:
    points: list[list[float]] = [list(point) for point in zip(area.ring[::2], area.ring[1::2], strict=True)]
    picture = None
    if area.bits is not None:
        left, top, width, height = area.box
        points = [[left, top], [left + width - 1, top + height - 1]]
        content = io.BytesIO()
        Image.fromarray(area.bits).save(content, "PNG")
        picture = base64.b64encode(content.getvalue()).decode()
    kind = "polygon" if picture is None else "mask"
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": picture,
    }


def _cvat(writer: AnnotationWriter) -> Path:
    drawn = [name for name in writer.classes if name not in BACKGROUND]
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "<version>1.1</version>",
        "<meta><task><labels>",
    ]
    lines += [f"<label><name>{escape(name)}</name></label>" for name in drawn]
    lines.append("</labels></task></meta>")
    for number, (one, name) in enumerate(zip(writer.images, writer.names(), strict=True)):
        height, width = one.size
        lines.append(f'<image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">')
        lines += [_cvat_shape(quoteattr(writer.classes[area.number]), area) for area in one.areas]
        lines += [f'<tag label={quoteattr(label)} source="auto"></tag>' for label in one.labels or ()]
        lines.append("</image>")
    lines.append("</annotations>\n")
    file = writer.out / "annotations.xml"
    file.write_text(NOT_IN_XML.sub("\ufffd", utf8("\n".join(lines))), encoding="utf-8")
    return file


def _cvat_shape(label: str, area: Area) -> str:
    shared = f'label={label} source="auto" occluded="0" z_order="0"'
    if area.bits is not None:
        left, top, width, height = area.box
        counts = ", ".join(map(str, counts_of_bits(area.bits, by_column=False)))
        place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
        return f'<mask {shared} rle="{counts}" {place}></mask>'
    points = ";".join(f"{x},{y}" for x, y in zip(area.ring[::2], area.ring[1::2], strict=True))
    return f'<polygon {shared} points="{points}"></polygon>'


# --format -> how all is written
FORMS: dict[str, Callable[[AnnotationWriter], Path]] = {"coco": _coco, "labelme": _labelme, "cvat": _cvat}


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content) + "\n", encoding="utf-8")
