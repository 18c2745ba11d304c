"""Find which folders are the classes: those of the root, of each split, or of each group.

    DIR/class                 the classes of the root
    DIR/train/class           splits, by any of their names (split_names.py)
    DIR/group/class           groups, only with --layout groups

A folder that can be read in two ways is refused. The error lists the readings and the option for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.read_as import ReadAs
from trainables.data.split_folders import CLASSES_BELOW, find_splits
from trainables.data.split_names import split_of
from trainables.data.walk import images_in, subfolders
from visionsweep.core.errors import DataError
from visionsweep.core.words import below, quoted, under

# Folders that are parts of a data set for detection or segmentation, and no classes.
PARTS = {
    "images",
    "image",
    "imgs",
    "labels",
    "label",
    "annotations",
    "annotation",
    "masks",
    "mask",
    "xml",
    "xmls",
    "txt",
}
SHOWN = 4  # names in a refusal


@dataclass(frozen=True)
class Place:
    """A folder of one class: `folder` is relative to the root, `split` is train, val, test or ''."""

    folder: str
    class_name: str
    split: str


@dataclass(frozen=True)
class ClassFolders:
    """The class folders of a data set.

    places  in the order of their folders
    above   folders that hold the places, '' for the root. Images directly in them belong to no class
    notes   what was assumed
    """

    places: tuple[Place, ...]
    above: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_class_folders(spec: str, root: Path, read_as: ReadAs) -> ClassFolders:
    """Find the class folders below the root. Raises DataError where it is doubtful which they are."""
    layout = read_as.layout
    if layout == "classes":
        return _classes(root, "")
    if layout == "groups":
        return _groups(spec, root, read_as)
    splits, notes = find_splits(spec, root, read_as)
    if not splits:
        if layout == "splits":
            raise DataError(f"--layout splits: '{spec}' has no 'train' folder of classes. Expected {CLASSES_BELOW}.")
        _refuse_doubts(spec, root, "")
        return _joined([_classes(root, "")], "", notes)
    for folder in splits if layout is None else ():
        _refuse_doubts(spec, root, folder)
    return _joined([_classes(root, folder, split) for folder, split in splits.items()], "", notes)


def _classes(root: Path, folder: str, split: str = "") -> ClassFolders:
    names = subfolders(root / folder)
    return ClassFolders(tuple(Place(under(folder, name), name, split) for name in names), (folder,))


def _joined(parts: Sequence[ClassFolders], above: str, notes: Sequence[str] = ()) -> ClassFolders:
    return ClassFolders(
        tuple(place for part in parts for place in part.places),
        tuple(dict.fromkeys([above, *(folder for part in parts for folder in part.above)])),
        (*notes, *(note for part in parts for note in part.notes)),
    )


# --- groups -------------------------------------------------------------------------------------------------------


def _groups(spec: str, root: Path, read_as: ReadAs) -> ClassFolders:
    """Find the classes of every group: DIR/group/class. Splits may be above the groups, or in each of them."""
    groups = [name for name in subfolders(root) if subfolders(root / name)]
    if not groups:
        raise DataError(
            f"--layout groups: no folder in '{spec}' holds folders of classes. Expected DIR/group/class/*.jpg."
        )
    if all(split_of(name) and _all_hold_folders(root, name) for name in groups) and "train" in map(split_of, groups):
        splits, notes = find_splits(spec, root, read_as)
        return _joined([_groups_of(spec, root, folder, split, read_as) for folder, split in splits.items()], "", notes)
    return _joined([_groups_of(spec, root, "", "", read_as)], "")


def _groups_of(spec: str, root: Path, folder: str, split: str, read_as: ReadAs) -> ClassFolders:
    parts = []
    groups = []
    flat = []
    for name in subfolders(root / folder):
        group = under(folder, name)
        if not subfolders(root / group):
            flat.append(group)
            continue
        groups.append(group)
        inner, notes = find_splits(below(spec, group), root / group, read_as) if not split else ({}, [])
        if inner:
            found = [_classes(root, under(group, inner_folder), side) for inner_folder, side in inner.items()]
            parts.append(_joined(found, group, notes))
        else:
            parts.append(_classes(root, group, split))
    notes = [f"Taken as groups, with the classes inside: {quoted(groups)}. A drawn split may divide them."]
    if flat:
        notes.append(f"Folders without folders of classes are left out: {quoted(flat)}.")
    return _joined(parts, folder, notes)


def _refuse_doubts(spec: str, root: Path, folder: str) -> None:
    """Raise DataError where folders do not look like classes.

    They may be the parts of data for another task. Or all of them hold the same folders: then the upper ones may be
    the classes, or the lower ones.
    """
    uppers = subfolders(root / folder)
    if uppers and all(name.lower() in PARTS for name in uppers):
        raise DataError(
            f"'{below(spec, folder)}' holds {quoted(uppers)}, which look like the parts of a data set and not like "
            "classes. Sort the images into folders of classes, list them in a labels.csv, or pass --layout "
            f"{'splits' if folder else 'classes'} if these are the classes."
        )
    if len(uppers) < 2 or not _all_hold_folders(root, folder):
        return
    inside = Counter(name for upper in uppers for name in subfolders(root / folder / upper))
    shared = [name for name, count in sorted(inside.items()) if count > max(1, len(uppers) / 2)]
    if len(shared) < 2:
        return
    where = (
        f"'{below(spec, folder)}' has {quoted(uppers, SHOWN)}, which hold the same folders: {quoted(shared, SHOWN)}. "
    )
    if len({split for name in shared if (split := split_of(name))}) > 1:
        raise DataError(
            f"{where}Splits stand above the classes: move the folders to {CLASSES_BELOW}. "
            "Or pass --layout classes to take all images of each folder and have a split drawn, or --layout groups if "
            "the classes are deeper."
        )
    raise DataError(
        f"{where}Pass --layout classes if {quoted(uppers, SHOWN)} are the classes, or --layout groups if "
        f"{quoted(shared, SHOWN)} are."
    )


def _all_hold_folders(root: Path, folder: str) -> bool:
    """Whether each folder in a folder holds folders and no images of its own."""
    inner = [root / folder / name for name in subfolders(root / folder)]
    return bool(inner) and all(subfolders(path) and not images_in(path) for path in inner)
