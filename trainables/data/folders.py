"""A folder of classes: DIR/class/*.jpg, or DIR/train/class, DIR/val/class and perhaps DIR/test/class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trainables.data.class_layouts import Place, find_class_folders
from trainables.data.endings import left_out_notes
from trainables.data.read_as import ReadAs
from trainables.data.reading import IMAGE_SUFFIXES, FileReader
from trainables.data.scan import Scan, class_order, content_digests
from trainables.data.split_names import split_of
from trainables.data.walk import Walk, images_in, subfolders
from visionsweep.core.errors import DataError
from visionsweep.core.words import below, counted, quoted, under

READ_AS = ReadAs()
OF_MASKS = {"images", "image", "masks", "mask"}  # folders of a split that hold no classes

LAYOUTS = (
    "Expected DIR/class/*.jpg, or DIR/train/class/*.jpg with DIR/val/class/*.jpg, or a labels.csv in DIR "
    f"(images end in {', '.join(IMAGE_SUFFIXES[:8])} and others that Pillow reads)."
)


def scan_folder(spec: str, root: Path, read_as: ReadAs = READ_AS) -> Scan:
    """Scan folders of classes. The folders' names are the classes, and images belong to them at any depth."""
    found = find_class_folders(spec, root, read_as)
    walk = Walk(root, [root / place.folder for place in found.places])
    images = {place: _images_of(walk, place) for place in found.places}
    filled = {(place.class_name, place.split) for place, names in images.items() if names}
    for place in found.places:
        # A class may have no image to be judged by. In groups it may be missing from some of them.
        is_empty = (place.class_name, place.split) not in filled
        if is_empty and place.split in ("", "train") and read_as.for_training:
            raise DataError(_empty_class(spec, root, place))
    beside = [under(folder, name) for folder in found.above for name in images_in(root / folder)]
    if not filled:
        where = f"{counted(len(beside), 'image')} found directly in it, but no folders of classes. " if beside else ""
        why = "".join(f"{note} " for note in _left_out(root, root))
        raise DataError(f"no images found in '{spec}'. {where}{why}{LAYOUTS}")

    rows = [(name, place.class_name, place.split) for place, names in images.items() for name in names]
    order = class_order(label for _, label, _ in rows)
    index_of = {label: index for index, label in enumerate(order)}
    names = tuple(name for name, _, _ in rows)
    return Scan(
        classes=order,
        names=names,
        targets=np.array([index_of[label] for _, label, _ in rows], dtype=np.int64),
        given=np.array([split for _, _, split in rows]),
        digests=content_digests([root / name for name in names]),
        reader=FileReader(root.resolve(), names),
        notes=(*found.notes, *_notes(images, beside, read_as), *walk.notes()),
    )


def has_class_folders(root: Path) -> bool:
    """Whether there is DIR/train/class, whatever else the folder holds, and 'train' has no masks of its own."""
    for name in subfolders(root):
        if split_of(name) == "train" and not (root / f"{name}annot").is_dir():
            return any(inside.lower() not in OF_MASKS for inside in subfolders(root / name))
    return False


def _images_of(walk: Walk, place: Place) -> list[str]:
    return walk.files(walk.root / place.folder, IMAGE_SUFFIXES, whose=under(place.split, place.class_name))


def _empty_class(spec: str, root: Path, place: Place) -> str:
    why = _left_out(root, root / place.folder) or ["Add its images, or remove the folder."]
    return " ".join([f"class '{place.class_name}' has no image in '{below(spec, place.folder)}'.", *why])


def _left_out(root: Path, folder: Path) -> list[str]:
    walk = Walk(root, [folder])
    walk.files(folder, IMAGE_SUFFIXES)
    return left_out_notes(walk.left_out)


def _notes(images: Mapping[Place, Sequence[str]], beside: Sequence[str], read_as: ReadAs) -> list[str]:
    notes = []
    if beside:
        notes.append(f"{counted(len(beside), 'image')} left out, beside the class folders: {quoted(beside)}.")
    sides = {place.split for place in images}
    unseen = sorted(sides - {place.split for place, names in images.items() if names})
    if unseen:
        notes.append(f"No image is read for {' and '.join(unseen)}, though there are folders for it.")
    deeper = [name for place, names in images.items() for name in names if "/" in name[len(place.folder) + 1 :]]
    if len(deeper) == sum(map(len, images.values())) and read_as.layout is None:
        notes.append(
            f"All images stand deeper than the class folders, such as '{deeper[0]}': the upper folders are taken as "
            "the classes."
        )
    return notes
