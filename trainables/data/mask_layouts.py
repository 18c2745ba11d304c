"""Find where a folder keeps its images and masks.

    images/ + masks/                    with train.txt, val.txt and test.txt where the data gives the split
    train/ + trainannot/, val/ + ...    as CamVid. Also images/train/ + masks/train/, and train/images/ + train/masks/
    train/x.jpg + train/x_mask.png      as Roboflow
    JPEGImages/ + SegmentationClass/    as Pascal VOC, labelme and CVAT: mask_voc.py

Folders of masks may be called masks, mask, labels, label or annotations, and splits as in split_names.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.mask_lists import Lists, find_lists
from trainables.data.mask_pairs import MASK_ENDING
from trainables.data.mask_split_folders import (
    Part,
    beside,
    has_masks_among,
    inside_pair,
    inside_split,
    leftover,
    pair_in,
    same_folder,
)
from trainables.data.mask_voc import find_voc
from trainables.data.read_as import ReadAs
from trainables.data.split_names import looks_like_a_split, split_of
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted


@dataclass(frozen=True)
class Layout:
    """Where a folder keeps its images and masks, relative to its root.

    parts      (folder of images, folder of masks, split of all of them or '')
    base       the folder of one year of Pascal VOC, where files may name the classes as in the root
    lists      which images each split has, None if there are no lists
    in_splits  whether images and masks are in the folders of the splits, where class folders could be
    as_voc     whether Pascal VOC's own classes are meant if no file names others
    """

    parts: tuple[tuple[str, str, str], ...]
    base: str = ""
    lists: Lists | None = None
    in_splits: bool = False
    as_voc: bool = False
    notes: tuple[str, ...] = ()


def find_layout(spec: str, root: Path, read_as: ReadAs | None = None) -> Layout | None:
    """Return the layout of the masks in `root`, or None if it has none.

    Raises DataError if it could mean several. `read_as` None only asks whether there are masks, so doubts that an
    option could settle are no error.
    """
    need_train = read_as is not None and read_as.for_training  # data that is only judged may have none
    pair = pair_in(root, "")
    two = None if pair is None else (*pair, "")
    if two is not None:
        lists = find_lists(spec, root, need_train=need_train)
        if lists is not None:  # lists, not folders, give the split
            return Layout((two,), lists=lists)
    for find, in_splits in ((beside, False), (inside_pair, False), (inside_split, True), (same_folder, False)):
        parts = find(root)
        named = {split_of(part.name) for part in parts if part.masks} - {None}
        # Without train, images/ and masks/ are read whole, whatever is below them.
        if "train" in named or (named and find is not inside_pair):
            return _by_split(spec, parts, leftover(root, parts, find), in_splits, read_as)
        if two is None and find is inside_split and len([part for part in parts if part.masks]) > 1:
            return _groups(spec, parts, read_as)
    voc = find_voc(spec, root, need_train)
    if voc is not None:
        return Layout((voc.part,), voc.base, voc.lists, as_voc=True, notes=voc.notes)
    if two is None:
        return None if read_as is None else _together(root)
    like_splits = [part.name for part in inside_pair(root) if split_of(part.name) or looks_like_a_split(part.name)]
    if len(like_splits) > 1 and need_train and read_as is not None and read_as.layout != "groups":
        raise DataError(
            f"'{two[0]}' in '{spec}' has {quoted(like_splits)}, and none is called train. Rename them to train, val "
            "and test, or pass --layout groups to take all of them together."
        )
    return Layout((two,))


def _by_split(
    spec: str, parts: Sequence[Part], others: tuple[list[str], list[str]], in_splits: bool, read_as: ReadAs | None
) -> Layout:
    """Return a layout with one part for each split.

    Unknown folders are refused, or left out with `--layout splits`.
    """
    by_name: dict[str, Part] = {}
    notes = []
    unknown = [part.name for part in parts if split_of(part.name) is None]
    doubtful = [name for name in unknown if looks_like_a_split(name)]
    if doubtful and read_as is not None and read_as.layout != "splits":
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
    renamed = [f"'{part.name}' is taken as {split}" for split, part in by_name.items() if part.name != split]
    if renamed:
        notes.append(f"{', '.join(renamed)}.")
    beside_them = quoted([part.name for part in by_name.values()])
    folders_beside = sorted({*unknown, *others[0]})
    images_beside = others[1]
    if folders_beside:
        notes.append(f"Folders beside {beside_them} are left out: {quoted(folders_beside)}.")
    if images_beside:
        notes.append(f"{counted(len(images_beside), 'image')} left out, beside {beside_them}: {quoted(images_beside)}.")
    order = [split for split in ("train", "val", "test") if split in by_name]
    found = tuple((by_name[split].images, by_name[split].masks or "", split) for split in order)
    return Layout(found, in_splits=in_splits, notes=tuple(notes))


def _groups(spec: str, parts: Sequence[Part], read_as: ReadAs | None) -> Layout:
    """Several folders that each hold images and masks, none of which is called train."""
    names = [part.name for part in parts]
    if read_as is not None and read_as.layout != "groups":
        raise DataError(
            f"'{spec}' holds folders with images and masks, and none is called train: {quoted(names)}. Rename them to "
            "train, val and test, or pass --layout groups to take all of them together."
        )
    found = tuple((part.images, part.masks, "") for part in parts if part.masks)
    return Layout(found, in_splits=True, notes=(f"Images and masks of {quoted(names)} are taken together.",))


def _together(root: Path) -> Layout | None:
    """Find images with their masks among them, in the root or in folders that are no splits.

    Folders of classes look the same, so this layout is tried only where masks are asked for.
    """
    if has_masks_among(root):
        return Layout((("", "", ""),))
    names = [part.name for part in same_folder(root) if part.masks]
    parts = tuple((name, name, "") for name in names)
    notes = (f"Images and masks of {quoted(names)} are taken together.",) if len(names) > 1 else ()
    return Layout(parts, notes=notes) if parts else None


def _expected(parts: Sequence[Part], lacking: Part, whose: str = "their") -> str:
    """Return the missing folder, named like that of another split: 'testannot' with their masks."""
    other = next(part for part in parts if split_of(part.name) and part.masks)
    if other.masks is None or other.masks == other.images:
        return f"'*{MASK_ENDING}.png' in it"
    if other.name not in other.masks:  # train_images and train_masks
        return f"folder with {whose} masks"
    return f"'{other.masks.replace(other.name, lacking.name)}' with {whose} masks"
