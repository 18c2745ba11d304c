"""Which folders are the classes: those of the root, those of each split, or those of each group.

    DIR/class                 the classes of the root
    DIR/train/class           splits, by any of their names (split_names.py)
    DIR/group/class           groups, only where --layout groups says so

What could be read in two ways is refused with the readings and the option for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import DataError
from trainables.data.split_names import resembled_split, split_of
from trainables.data.walk import images_in, subfolders
from trainables.data.words import below, quoted, under

CLASSES_BELOW = "DIR/train/class/*.jpg, DIR/val/class/*.jpg and perhaps DIR/test/class/*.jpg"
WRAPPERS = ("images", "image", "imgs", "img", "photos", "pictures", "data")  # what may hold the classes of a split
SHOWN = 4  # names in a refusal


@dataclass(frozen=True)
class Place:
    """A folder of one class: `folder` is relative to the root, `split` is train, val, test or ''."""

    folder: str
    class_name: str
    split: str


@dataclass(frozen=True)
class ClassFolders:
    """places  in the order of their folders
    above   folders that hold the places, '' for the root: images in them belong to no class
    notes   what was assumed
    """

    places: tuple[Place, ...]
    above: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_class_folders(spec: str, root: Path, layout: str | None) -> ClassFolders:
    """Find the class folders below the root; `layout` as in `ReadAs`. Raises DataError where it is doubtful."""
    if layout == "classes":
        return _classes(root, "")
    if layout == "groups":
        return _groups(spec, root)
    splits, notes = _splits(spec, root, leave_out=layout == "splits")
    if not splits:
        if layout == "splits":
            raise DataError(f"--layout splits: '{spec}' has no 'train' folder of classes. Expected {CLASSES_BELOW}.")
        _refuse_groups(spec, root, "")
        return _joined([_classes(root, "")], "", notes)
    for folder in splits:
        _refuse_groups(spec, root, folder)
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


# --- splits -------------------------------------------------------------------------------------------------------


def _splits(spec: str, root: Path, leave_out: bool) -> tuple[dict[str, str], list[str]]:
    """Folder that holds a split's classes -> split, none where there are no splits; and notes.

    leave_out: folders that are called like a split and are none are left out, not refused.
    """
    names = subfolders(root)
    split_for = {name: split for name in names if (split := split_of(name))}
    with_classes = {name: folder for name in split_for if (folder := _holding_classes(root, name, split_for[name]))}
    alike = [name for name in names if resembled_split(name) and not _is_empty(root / name)]
    flat = [name for name in split_for if name not in with_classes and images_in(root / name)]
    if not with_classes:
        return {}, _flat_notes(spec, root, names, flat, alike)

    taken = {name: split_for[name] for name in with_classes}
    if "train" not in taken.values():
        near = [name for name in alike if resembled_split(name) == "train"]
        move = f"Rename {quoted(near)} to train" if near else f"Expected {CLASSES_BELOW}"
        raise DataError(
            f"'{spec}' has {quoted(list(taken))} but no 'train' folder of classes. {move}, or pass --layout classes if "
            "these folders are the classes."
        )
    for split, what in (("train", "training"), ("val", "validation"), ("test", "test")):
        same = [name for name in taken if taken[name] == split]
        if len(same) > 1:
            raise DataError(f"'{spec}' has more than one {what} folder ({quoted(same)}). Keep one of them.")
    if alike and not leave_out:
        raise DataError(
            f"'{spec}' has {quoted(list(taken))} beside {quoted(alike)}, and a split is called train, val or test. "
            f"Rename {quoted(alike)}, or pass --layout splits to leave it out, or --layout classes if all of these "
            "folders are classes."
        )
    if flat and not leave_out:
        raise DataError(
            f"'{spec}' has classes in {quoted(list(taken))}, but no folders of classes in {quoted(flat)}, only images. "
            f"Sort them into folders of classes, or pass --layout splits to leave {quoted(flat)} out."
        )
    notes = []
    renamed = [
        f"'{folder}' is taken as {taken[name]}" for name, folder in with_classes.items() if folder != taken[name]
    ]
    if renamed:
        notes.append(f"{', '.join(renamed)}.")
    beside = [name for name in names if name not in taken]
    if beside:
        notes.append(f"Folders beside {quoted(list(taken))} are left out: {quoted(beside)}.")
    return {with_classes[name]: split for name, split in taken.items()}, notes


def _flat_notes(spec: str, root: Path, names: list[str], flat: list[str], alike: list[str]) -> list[str]:
    """Notes where no split holds folders of classes. A DataError where the folders look like splits all the same.

    One class may be called 'train': there are data sets of trains and planes.
    """
    kinds = {split_of(name) or resembled_split(name) for name in (*flat, *alike)}
    if len(kinds) < 2:
        return [f"'{name}' is taken as a class, as it holds images and no folders of classes." for name in flat]
    suspects = [name for name in names if name in flat or name in alike]
    masks = [f"{name}/{mask}" for name in suspects if (mask := _mask_beside(root / name))]
    if masks:
        raise DataError(
            f"'{spec}' has images with masks beside them, such as '{masks[0]}', and no folders of classes. "
            "Pass --task segmentation, with the masks in folders of their own (train/images and train/masks), or put "
            "the images into folders of classes."
        )
    if any(subfolders(root / name) for name in suspects):
        raise DataError(
            f"'{spec}' has {quoted(suspects)}, which look like splits and are not called train, val and test. "
            "Rename them, or pass --layout classes if these folders are the classes."
        )
    raise DataError(
        f"'{spec}' has {quoted(suspects)}, which look like splits but hold images and no folders of classes. "
        f"Sort the images as {CLASSES_BELOW}, list them in a labels.csv, or pass --layout classes if these folders "
        "are the classes."
    )


def _holding_classes(root: Path, name: str, split: str) -> str:
    """The folder at or below a split's that holds its classes: archives wrap folders in folders. '' if none does."""
    folder = name
    while len(inside := subfolders(root / folder)) == 1 and not images_in(root / folder):
        inner = f"{folder}/{inside[0]}"
        is_wrapper = split_of(inside[0]) == split or inside[0].lower() in WRAPPERS
        if not (is_wrapper and subfolders(root / inner)):
            break
        folder = inner
    return folder if inside else ""


def _is_empty(folder: Path) -> bool:
    return not subfolders(folder) and not images_in(folder)


def _mask_beside(folder: Path) -> str:
    """The first image in a folder that is a mask of another one there: x_mask.png of x.jpg."""
    images = images_in(folder)
    stems = {name.rpartition(".")[0] for name in images}
    return next(
        (name for name in images if name.lower().endswith("_mask.png") and name[: -len("_mask.png")] in stems), ""
    )


# --- groups -------------------------------------------------------------------------------------------------------


def _groups(spec: str, root: Path) -> ClassFolders:
    """Classes of every group: DIR/group/class. Splits may stand above the groups, or in each of them."""
    groups = [name for name in subfolders(root) if subfolders(root / name)]
    if not groups:
        raise DataError(
            f"--layout groups: no folder in '{spec}' holds folders of classes. Expected DIR/group/class/*.jpg."
        )
    if all(split_of(name) and _all_hold_folders(root, name) for name in groups) and "train" in map(split_of, groups):
        splits, notes = _splits(spec, root, leave_out=True)
        return _joined([_groups_of(spec, root, folder, split) for folder, split in splits.items()], "", notes)
    return _joined([_groups_of(spec, root, "", "")], "")


def _groups_of(spec: str, root: Path, folder: str, split: str) -> ClassFolders:
    parts, groups, flat = [], [], []
    for name in subfolders(root / folder):
        group = under(folder, name)
        if not subfolders(root / group):
            flat.append(group)
            continue
        groups.append(group)
        inner, notes = _splits(below(spec, group), root / group, leave_out=True) if not split else ({}, [])
        if inner:
            found = [_classes(root, under(group, inner_folder), side) for inner_folder, side in inner.items()]
            parts.append(_joined(found, group, notes))
        else:
            parts.append(_classes(root, group, split))
    notes = [f"Taken as groups, with the classes inside: {quoted(groups)}. No split follows them."]
    if flat:
        notes.append(f"Folders without folders of classes are left out: {quoted(flat)}.")
    return _joined(parts, folder, notes)


def _refuse_groups(spec: str, root: Path, folder: str) -> None:
    """Raise DataError where all folders hold the same folders: the upper ones may be the classes, or the lower ones."""
    uppers = subfolders(root / folder)
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
