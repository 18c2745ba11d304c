"""Make a scan of what a tool's files say: masks of its areas, or labels of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trainables.data.dataset import VOID
from trainables.data.mask_names import is_void
from trainables.data.reading import FileReader
from trainables.data.scan import Scan, bytes_digest, class_order, content_digests
from trainables.data.tools.gathered import Annotated, Gathered
from trainables.data.tools.shapes import BOX, DrawnMasks, Shape, check_class, packed, polygon
from visionsweep.core.errors import DataError
from visionsweep.core.tasks import task_kind
from visionsweep.core.words import counted, quoted

BACKGROUND = ("background", "_background_", "__background__")


def as_scan(found: Gathered, task: str | None) -> Scan:
    """Return the scan for a task. None takes masks where there are areas, else labels. Raises DataError."""
    if not found.images:
        why = f" {found.first_bad}." if found.first_bad else ""
        raise DataError(f"no annotated images found in '{found.spec}'.{why} Check what {found.tool} exported.")
    for name in found.classes:
        try:
            check_class(name)
        except DataError as error:
            raise DataError(f"{found.spec}: {error}. Rename it.") from None
    has_areas = any(shape.kind != BOX for one in found.images for shape in one.shapes)
    masked = task_kind(task).pixels or (task is None and has_areas)
    scan = _masks(found) if masked else _labels(found, task)
    return replace(scan, notes=(*_notes(found, scan.names), *scan.notes))


def _masks(found: Gathered) -> Scan:
    images = found.images if found.every_labelled else [one for one in found.images if one.shapes]
    empty = [one.image for one in found.images if not one.shapes]
    if found.box_is_area:
        boxes = sum(shape.kind == BOX for one in images for shape in one.shapes)
        images = [replace(one, shapes=tuple(map(_as_area, one.shapes))) for one in images]
        notes = [f"{counted(boxes, 'box' if boxes == 1 else 'boxe')} taken as areas."] if boxes else []
    else:
        images = _without_boxes(found, images)
        notes = []
    if not any(one.shapes for one in images):
        raise DataError(
            f"task 'segmentation' needs polygons or masks, and '{found.spec}' ({found.tool}) has none. Draw them, or "
            "pass --task multilabel to learn which classes an image shows."
        )
    used = class_order(shape.label for one in images for shape in one.shapes)
    classes, index_of = _numbered(found, found.classes or used, used)
    if empty:
        what = "their pixels are background" if found.every_labelled else "left out: nobody may have looked at them"
        notes.append(f"{counted(len(empty), 'image')} without annotations, {what}: {quoted(empty)}.")
    void = [name for name, index in index_of.items() if index == VOID]
    if void:
        notes.append(f"What is called {quoted(void)} is taken as void.")
    kept = tuple(one.image for one in images)
    shapes = tuple(packed(one.shapes, index_of) for one in images)
    meaning = repr(classes)
    root = found.root.resolve()
    return Scan(
        classes=classes,
        names=kept,
        targets=np.zeros((len(kept), len(classes)), np.int64),
        given=_given(found, images),
        digests=content_digests([found.root / name for name in kept]),
        reader=FileReader(root, kept),
        notes=tuple(notes),
        mask_reader=DrawnMasks(
            root, kept, tuple(one.file for one in images), tuple(one.size for one in images), shapes, 0
        ),
        mask_digests=tuple(
            bytes_digest(drawn + f"{one.size}{meaning}".encode("utf-8", "surrogateescape"))
            for one, drawn in zip(images, shapes, strict=True)
        ),
    )


def _labels(found: Gathered, task: str | None) -> Scan:
    """The labels of whole images, or else the classes of what is drawn on them."""
    of_images = found.several_labels or any(one.labels for one in found.images)
    images = found.images
    notes = []
    if not found.several_labels and (of_images or not found.every_labelled):
        images = [one for one in images if one.labels or (one.shapes and not of_images)]
        without = sorted({one.image for one in found.images} - {one.image for one in images})
        if without:
            notes.append(f"{counted(len(without), 'image')} without a label left out: {quoted(without)}.")
    said = [one.labels if of_images else tuple(shape.label for shape in one.shapes) for one in images]
    rows = [set(labels) for labels in said]
    # Several labels each, unless the tool or the task says that an image has one.
    one_each = all(len(row) == 1 for row in rows)
    is_single = one_each and (
        (task is not None and task_kind(task).one_label) or (of_images and task is None and not found.several_labels)
    )
    named = {label for row in rows for label in row}
    classes = tuple(name for name in found.classes if name in named or found.several_labels or not of_images)
    classes = tuple(name for name in classes if name in named or not is_single) or class_order(named)
    if not of_images:
        notes.append("The labels of an image are the classes of what is drawn on it.")
    place = {name: index for index, name in enumerate(classes)}
    targets: np.ndarray
    if is_single:
        targets = np.array([place[next(iter(row))] for row in rows], np.int64)
    else:
        targets = np.array([[name in row for name in classes] for row in rows], np.uint8).reshape(len(rows), -1)
    if of_images and is_single and task is None:
        notes.append("Each image has one label, so an image has one class. --task multilabel allows several.")
    kept = tuple(one.image for one in images)
    return Scan(
        classes=classes,
        names=kept,
        targets=targets,
        given=_given(found, images),
        digests=content_digests([found.root / name for name in kept]),
        reader=FileReader(found.root.resolve(), kept),
        notes=tuple(notes),
    )


def _numbered(found: Gathered, names: Sequence[str], used: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the classes with background first, and the value that each of the tool's names has in a mask."""
    drawn = [name for name in names if name not in BACKGROUND and not is_void(name)]
    if len(drawn) >= VOID:
        raise DataError(
            f"'{found.spec}' ({found.tool}) has {len(drawn)} classes, and masks hold {VOID - 1} beside background. "
            "Join or remove some."
        )
    index_of = {name: index for index, name in enumerate(drawn, 1)}
    index_of |= {name: 0 for name in used if name in BACKGROUND}
    index_of |= {name: VOID for name in used if is_void(name)}
    return (BACKGROUND[0], *drawn), index_of


def _as_area(shape: Shape) -> Shape:
    return polygon(shape.label, [shape.data]) if shape.kind == BOX else shape


def _without_boxes(found: Gathered, images: Sequence[Annotated]) -> list[Annotated]:
    """The images whose annotations all have areas. A box beside polygons would silently become background."""
    if all(shape.kind == BOX for one in images for shape in one.shapes):
        return []
    kept = []
    for one in images:
        with found.image_at(f"{one.file}, image '{one.image}'"):
            boxes = [shape.label for shape in one.shapes if shape.kind == BOX]
            if boxes:
                raise DataError(f"an annotation ('{boxes[0]}') is a box, and others are areas")
            kept.append(one)
    return kept


def _given(found: Gathered, images: Sequence[Annotated]) -> np.ndarray:
    """Return the splits, (N,) str. All are '' where no image is to be trained on: the split is then drawn."""
    splits = [one.split for one in images]
    if "" in splits and set(splits) != {""}:
        lacking = next(one for one in images if not one.split)
        raise DataError(
            f"{found.spec}: image '{lacking.image}' belongs to no split, and others do. Move it into train, val or "
            "test, or export all images together."
        )
    return np.array(splits)


def _notes(found: Gathered, names: Sequence[str]) -> list[str]:
    notes = [f"Annotations of {found.tool} are read.", *found.notes]
    if found.by_name_alone:
        notes.append(
            f"{counted(len(found.by_name_alone), 'image')} found by name, not where the file says: "
            f"{quoted(sorted(found.by_name_alone), 3)}."
        )
    if found.bad:
        notes.append(
            f"{counted(len(found.bad), 'image')} left out, with wrong annotations. The first: {found.first_bad}."
        )
    if found.unlabelled:
        notes.append(
            f"{counted(len(found.unlabelled), 'image')} left out, as nobody has annotated them: "
            f"{quoted(found.unlabelled)}."
        )
    unnamed = sorted({*found.on_disk} - {one.image for one in found.images} - {*found.unlabelled})
    if unnamed and not found.bad:
        notes.append(f"{counted(len(unnamed), 'image')} left out, without annotations: {quoted(unnamed)}.")
    if found.left_out:
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(found.left_out.items()))
        notes.append(f"{counted(found.left_out.total(), 'shape')} left out, as they have no area: {kinds}.")
    return [*notes, *found.walk.notes()]
