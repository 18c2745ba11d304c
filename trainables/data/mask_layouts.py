"""Where a folder of images and masks keeps what.

    images/ + masks/                    with train.txt, val.txt and test.txt where the data gives the split
    train/ + trainannot/, val/ + ...    as CamVid; so images/train/ + masks/train/, and train/images/ + train/masks/
    train/x.jpg + train/x_mask.png      as Roboflow
    JPEGImages/ + SegmentationClass/    as Pascal VOC, labelme and CVAT: mask_voc.py

Folders of masks may be called masks, mask, labels, label or annotations, and splits as in split_names.py. A folder
that holds nothing but such a folder is entered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from search_spaces.errors import DataError
from trainables.data.mask_lists import Lists, find_lists
from trainables.data.mask_pairs import MASK_ENDING
from trainables.data.mask_split_folders import (
    Part,
    beside,
    folders,
    holds,
    inside_pair,
    inside_split,
    leftover,
    pair_in,
    same_folder,
)
from trainables.data.mask_voc import find_voc
from trainables.data.read_as import ReadAs
from trainables.data.reading import IMAGE_SUFFIXES
from trainables.data.split_names import looks_like_a_split, split_of
from trainables.data.words import counted, quoted

READ_AS = ReadAs()


@dataclass(frozen=True)
class Layout:
    """Where a folder keeps what, relative to its root.

    parts     (folder of images, folder of masks, split of all of them or '')
    base      the folder that holds them all, '' for the root: files there name the classes
    lists     which images are used for what; None where there are no lists
    in_splits whether the folders of the splits stand in the base, where class folders could be
    as_voc    whether Pascal VOC's own classes are meant where no file names others
    """

    parts: tuple[tuple[str, str, str], ...]
    base: str = ""
    lists: Lists | None = None
    in_splits: bool = False
    as_voc: bool = False
    notes: tuple[str, ...] = ()


def find_layout(spec: str, root: Path, read_as: ReadAs = READ_AS) -> Layout | None:
    """The layout of the masks in `root`, or None where it has none. Raises DataError where it could mean several."""
    layout = _layout_of(spec, root, "", read_as)
    if layout is not None:
        return layout
    only = folders(root)
    if len(only) == 1 and not any(holds(root, IMAGE_SUFFIXES)):
        layout = _layout_of(spec, root, only[0], read_as)
        if layout is not None:
            return replace(layout, notes=(f"Everything is in the folder '{only[0]}'.", *layout.notes))
    return None


def _layout_of(spec: str, root: Path, base: str, read_as: ReadAs) -> Layout | None:
    pair = pair_in(root, base)
    two = None if pair is None else (*pair, "")
    if two is not None:
        lists = find_lists(spec, root / base)
        if lists is not None:  # lists, not folders, give the split
            return Layout((two,), base, lists)
    for find, in_splits in ((beside, True), (inside_pair, False), (inside_split, True), (same_folder, True)):
        parts = find(root, base)
        if any(split_of(part.name) == "train" and part.masks for part in parts):
            return _by_split(spec, base, parts, leftover(root, base, parts, find), in_splits, read_as)
        if two is None and find is inside_split and len([part for part in parts if part.masks]) > 1:
            return _groups(spec, base, parts, read_as)
    voc = find_voc(spec, root, base)
    if voc is not None:
        return Layout((voc.part,), voc.base, voc.lists, as_voc=True, notes=voc.notes)
    return None if two is None else Layout((two,), base)


def _by_split(
    spec: str, base: str, parts: Sequence[Part], others: tuple[list[str], list[str]], in_splits: bool, read_as: ReadAs
) -> Layout:
    """One part for each split, the unknown ones refused unless `--layout splits` says that they are left out."""
    by_name: dict[str, Part] = {}
    notes = []
    unknown = [part.name for part in parts if split_of(part.name) is None]
    doubtful = [name for name in unknown if looks_like_a_split(name)]
    if doubtful and read_as.layout != "splits":
        raise DataError(
            f"'{spec}' has {quoted([part.name for part in parts if split_of(part.name)])}, and {quoted(doubtful)}, "
            "which is no name of a split. Rename it to train, val or test, or pass --layout splits to leave it out."
        )
    for part in parts:
        split = split_of(part.name)
        if split is None:
            continue
        if part.masks is None and split == "test":
            notes.append(f"The images in '{part.images}' are left out: there is no {_expected(parts, part)}.")
        elif part.masks is None:
            raise DataError(f"'{spec}' has '{part.images}', but no {_expected(parts, part, 'its')}. Add it.")
        elif split in by_name:
            raise DataError(
                f"'{spec}' has '{by_name[split].name}' and '{part.name}' for one split. Join them, or remove one."
            )
        else:
            by_name[split] = part
    renamed = [f"'{part.name}' is {split}" for split, part in by_name.items() if part.name != split]
    if renamed:
        notes.append(f"Folders of splits: {', '.join(renamed)}.")
    beside_them = quoted([part.name for part in by_name.values()])
    folders_beside, images_beside = sorted({*unknown, *others[0]}), others[1]
    if folders_beside:
        notes.append(f"Folders beside {beside_them} are left out: {quoted(folders_beside)}.")
    if images_beside:
        notes.append(f"{counted(len(images_beside), 'image')} left out, beside {beside_them}: {quoted(images_beside)}.")
    order = [split for split in ("train", "val", "test") if split in by_name]
    found = tuple((by_name[split].images, by_name[split].masks or "", split) for split in order)
    return Layout(found, base, in_splits=in_splits, notes=tuple(notes))


def _groups(spec: str, base: str, parts: Sequence[Part], read_as: ReadAs) -> Layout:
    """Several folders that each hold images and masks, none of which is called train."""
    names = [part.name for part in parts]
    if read_as.layout != "groups":
        raise DataError(
            f"'{spec}' holds folders with images and masks, and none is called train: {quoted(names)}. Rename them to "
            "train, val and test, or pass --layout groups to take all of them together."
        )
    found = tuple((part.images, part.masks, "") for part in parts if part.masks)
    return Layout(found, base, in_splits=True, notes=(f"Images and masks of {quoted(names)} are taken together.",))


def _expected(parts: Sequence[Part], lacking: Part, whose: str = "their") -> str:
    """What is missing, called as that of train is: 'testannot' with their masks."""
    train = next(part for part in parts if split_of(part.name) == "train" and part.masks)
    if train.masks is None or train.masks == train.images:
        return f"'*{MASK_ENDING}.png' in it"
    return f"'{train.masks.replace(train.name, lacking.name)}' with {whose} masks"
