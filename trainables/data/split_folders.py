"""Find the folders of splits, by their names and their contents: DIR/train/class, DIR/val/class."""

from __future__ import annotations

from pathlib import Path

from trainables.data.read_as import ReadAs
from trainables.data.split_names import resembled_split, split_of
from trainables.data.walk import images_in, subfolders
from visionsweep.core.errors import DataError
from visionsweep.core.words import quoted

CLASSES_BELOW = "DIR/train/class/*.jpg, DIR/val/class/*.jpg and perhaps DIR/test/class/*.jpg"
WRAPPERS = ("images", "image", "imgs", "img", "photos", "pictures", "data")  # what may hold the classes of a split


def find_splits(spec: str, root: Path, read_as: ReadAs) -> tuple[dict[str, str], list[str]]:
    """Return {folder that holds a split's classes: split}, empty if there are no splits, and notes.

    Folders that only resemble a split are refused. With a layout named, they are left out instead.
    """
    # Sort the folders: those of splits with classes, those with images only, and those of similar names.
    names = subfolders(root)
    split_for = {name: split for name in names if (split := split_of(name))}
    with_classes = {name: folder for name in split_for if (folder := _holding_classes(root, name, split_for[name]))}
    alike = [name for name in names if resembled_split(name) and not _is_empty(root / name)]
    flat = [name for name in split_for if name not in with_classes and images_in(root / name)]
    if not with_classes:
        return {}, _flat_notes(spec, root, names, flat, alike)

    # Refuse what would lose images or mix splits: no train, two folders of one split, or doubtful folders beside.
    taken = {name: split_for[name] for name in with_classes}
    if "train" not in taken.values() and read_as.for_training:
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
    if alike and read_as.layout is None:
        raise DataError(
            f"'{spec}' has {quoted(list(taken))} beside {quoted(alike)}, and a split is called train, val or test. "
            f"Rename {quoted(alike)}, or pass --layout splits to leave it out, or --layout classes if all of these "
            "folders are classes."
        )
    if flat and read_as.layout is None:
        raise DataError(
            f"'{spec}' has classes in {quoted(list(taken))}, but no folders of classes in {quoted(flat)}, only images. "
            f"Sort them into folders of classes, or pass --layout splits to leave {quoted(flat)} out."
        )
    # Note assumptions.
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
    """Return notes if no split holds folders of classes. Raise DataError if the folders still look like splits.

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
    if any(_holding_classes(root, name, "") for name in suspects):
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
    """Return the folder at or below a split's that holds its classes, or ''. Archives wrap folders in folders."""
    folder = name
    while len(inside := subfolders(root / folder)) == 1 and not images_in(root / folder):
        inner = f"{folder}/{inside[0]}"
        is_wrapper = split_of(inside[0]) == split or inside[0].lower() in WRAPPERS
        if not (is_wrapper and subfolders(root / inner)):
            break
        folder = inner
    only_images = images_in(root / folder) and all(_is_empty(root / folder / name) for name in inside)
    return folder if inside and not only_images else ""


def _is_empty(folder: Path) -> bool:
    return not subfolders(folder) and not images_in(folder)


def _mask_beside(folder: Path) -> str:
    """The first image in a folder that is a mask of another one there: x_mask.png of x.jpg."""
    images = images_in(folder)
    stems = {name.rpartition(".")[0] for name in images}
    return next(
        (name for name in images if name.lower().endswith("_mask.png") and name[: -len("_mask.png")] in stems), ""
    )
