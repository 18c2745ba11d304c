"""Folders of images and masks that belong together by their stems.

    images/ + masks/                    with train.txt, val.txt and test.txt where the data gives the split
    train/ + trainannot/, val/ + ...    as CamVid; so images/train/ + masks/train/, and train/images/ + train/masks/
    JPEGImages/ + SegmentationClass/    as Pascal VOC, with ImageSets/Segmentation/train.txt and val.txt

What the masks hold is found in mask_classes.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search_spaces.errors import DataError
from trainables.data.mask_classes import VOC_CLASSES, find_coding
from trainables.data.mask_pairs import Pair, listed, paired, turned_notes
from trainables.data.masks import MASK_SUFFIXES, MaskFiles, mask_digests
from trainables.data.read_as import ReadAs
from trainables.data.reading import FileReader, is_turned
from trainables.data.scan import MASK_LAYOUTS, Scan, digests_and
from trainables.data.walk import notes_below
from trainables.data.words import counted, quoted

SPLITS = ("train", "val", "test")
BY_SPLIT = (("{}", "{}annot"), ("images/{}", "masks/{}"), ("{}/images", "{}/masks"))  # images, masks; the first: CamVid
JPEG = (".jpg", ".jpeg", ".JPG")


@dataclass(frozen=True)
class Layout:
    """Where a folder keeps what, relative to its root.

    parts    (folder of images, folder of masks, split of all of them or '')
    lists    folder of train.txt, val.txt and test.txt; None where there are none
    classes  the format's own, where no classes.txt names others
    """

    parts: tuple[tuple[str, str, str], ...]
    lists: str | None = None
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def find_layout(spec: str, root: Path) -> Layout | None:
    """The layout of the masks in `root`, or None where it has none."""
    for find in (_by_split, _voc, _two_folders):
        layout = find(spec, root)
        if layout is not None:
            return layout
    return None


def scan_masks(spec: str, root: Path, read_as: ReadAs) -> Scan:
    """Images with their masks. Images without one are an error, or left out with a note where `read_as` says so.

    Raises DataError where the folder has none of the layouts, or an image or a mask of a pair is missing.
    """
    layout = find_layout(spec, root)
    if layout is None:
        raise DataError(f"no masks found in '{spec}'. {MASK_LAYOUTS}")
    pairs: list[Pair] = []
    notes = list(layout.notes)
    for images, masks, split in layout.parts:
        found, lone_masks = paired(spec, root, images, masks)
        if layout.lists is not None:
            found, list_notes = listed(spec, root / layout.lists, found, images, read_as.on_bad_image)
            notes += list_notes
        else:
            found = [pair.on(split) for pair in found]
        found, missing = _with_masks(spec, root, found, masks, lone_masks, read_as.on_bad_image)
        pairs += found
        notes += missing
        if lone_masks:
            notes.append(f"{counted(len(lone_masks), 'mask')} left out, without an image: {quoted(lone_masks)}.")
    if not pairs:
        why = notes_below(root, [images for images, _, _ in layout.parts])
        raise DataError(" ".join([f"no images with masks found in '{spec}'.", *why, MASK_LAYOUTS]))

    names, mask_names = tuple(pair.image for pair in pairs), tuple(pair.mask for pair in pairs)
    coding = find_coding(spec, root, mask_names, layout.classes)
    looked_at = digests_and(is_turned, [root / name for name in names])
    notes += turned_notes(root, [pair for pair, (_, turned) in zip(pairs, looked_at, strict=True) if turned])
    return Scan(
        classes=coding.classes,
        names=names,
        targets=np.zeros((len(pairs), len(coding.classes)), np.int64),
        given=np.array([pair.split for pair in pairs]),
        digests=tuple(digest for digest, _ in looked_at),
        reader=FileReader(root.resolve(), names),
        notes=tuple(notes),
        mask_reader=MaskFiles(root.resolve(), mask_names, coding),
        mask_digests=mask_digests([root / name for name in mask_names], coding),
    )


def _two_folders(spec: str, root: Path) -> Layout | None:
    if not ((root / "images").is_dir() and (root / "masks").is_dir()):
        return None
    return Layout((("images", "masks", ""),), "" if _has_lists(root) else None)


def _has_lists(root: Path) -> bool:
    return any((root / f"{split}.txt").is_file() for split in SPLITS)


def _by_split(spec: str, root: Path) -> Layout | None:
    if (root / "images").is_dir() and _has_lists(root):
        return None  # lists, not folders, give the split
    for images, masks in BY_SPLIT:
        # Data that is only judged may have no train. images/ + masks/ are then read whole, whatever is below them.
        begin = ("train",) if images.startswith("images") else SPLITS
        if any((root / images.format(one)).is_dir() and (root / masks.format(one)).is_dir() for one in begin):
            break
    else:
        return None
    parts, notes = [], []
    for split in SPLITS:
        of_images, of_masks = images.format(split), masks.format(split)
        if not (root / of_images).is_dir():
            continue
        if (root / of_masks).is_dir():
            parts.append((of_images, of_masks, split))
        elif split == "test":
            notes.append(f"The images in '{of_images}' are left out: there is no '{of_masks}' with their masks.")
        else:
            raise DataError(f"'{spec}' has '{of_images}', but no '{of_masks}' with its masks. Add it.")
    return Layout(tuple(parts), notes=tuple(notes))


def _voc(spec: str, root: Path) -> Layout | None:
    bases = [root, *sorted(root.glob("VOC20??")), *sorted(root.glob("VOCdevkit/VOC20??"))]
    bases = [base for base in bases if (base / "JPEGImages").is_dir() and (base / "SegmentationClass").is_dir()]
    if not bases:
        return None
    if len(bases) > 1:
        years = [base.relative_to(root).as_posix() for base in bases]
        raise DataError(f"'{spec}' holds more than one Pascal VOC ({quoted(years)}). Name the folder of one of them.")
    base = bases[0].relative_to(root)
    lists = base / "ImageSets" / "Segmentation"
    if not any((root / lists / f"{name}.txt").is_file() for name in ("train", "trainval")):
        raise DataError(
            f"'{spec}' is laid out as Pascal VOC, but '{lists.as_posix()}' has no train.txt. "
            "List the images to train on there, one stem a line, and those to judge by in val.txt."
        )
    folders = ((base / "JPEGImages").as_posix(), (base / "SegmentationClass").as_posix(), "")
    return Layout((folders,), lists.as_posix(), VOC_CLASSES)


def _with_masks(
    spec: str, root: Path, pairs: list[Pair], masks: str, lone_masks: list[str], on_bad_image: str
) -> tuple[list[Pair], list[str]]:
    """The pairs that have a mask, and notes about the others."""
    missing = [pair for pair in pairs if not pair.mask]
    notes = []
    test = [pair for pair in pairs if pair.split == "test"]
    if test and all(not pair.mask for pair in test):  # challenges publish test images, and keep their masks
        notes.append(f"{counted(len(test), 'test image')} left out, as none of them has a mask.")
        missing = [pair for pair in missing if pair.split != "test"]
    if missing and on_bad_image == "error":
        first, *rest = missing
        more = f" ({len(rest)} more like it)" if rest else ""
        beside = f" '{lone_masks[0]}' belongs to no image: masks need the stems of their images." if lone_masks else ""
        jpeg = next(
            (f"{masks}/{first.stem}{end}" for end in JPEG if (root / masks / f"{first.stem}{end}").is_file()), ""
        )
        if jpeg:
            beside = (
                f" '{jpeg}' is no mask: JPEG's compression changes its values; masks are {', '.join(MASK_SUFFIXES)}."
            )
        raise DataError(
            f"{spec}: image '{first.image}' has no mask '{masks}/{first.stem}.*'{more}.{beside} Add it, list the "
            "images to use in train.txt and val.txt, or pass --on-bad-image skip to leave out what has no mask."
        )
    if missing:
        names = [pair.image for pair in missing]
        notes.append(f"{counted(len(names), 'image')} left out, without a mask: {quoted(names)}.")
    return [pair for pair in pairs if pair.mask], notes
