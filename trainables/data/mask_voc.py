"""The layout of Pascal VOC, which labelme, CVAT and Datumaro write too: JPEGImages/ and SegmentationClass/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.data.mask_lists import Lists, find_lists
from trainables.data.mask_names import LINE_FILES, PALETTE_FILES, WEAK_FILES
from trainables.data.masks import MASK_SUFFIXES
from trainables.data.walk import files_below
from visionsweep.core.errors import DataError
from visionsweep.core.words import quoted

MASKS = ("SegmentationClass", "SegmentationClassPNG")  # labelme wrote arrays into the first, and masks into the second
LISTS = ("ImageSets/Segmentation", "ImageSets/Main")


@dataclass(frozen=True)
class Voc:
    """A folder laid out as Pascal VOC's.

    part: (folder of images, folder of masks, ''). lists: None for all images that have a mask, without a split.
    """

    base: str
    part: tuple[str, str, str]
    lists: Lists | None
    notes: tuple[str, ...] = ()


def find_voc(spec: str, root: Path, need_train: bool) -> Voc | None:
    """Find this layout in the root itself, or in one year below it.

    Raises DataError where there are several years, or neither lists nor names of classes.
    """
    bases = [root, *sorted(root.glob("VOC20??")), *sorted(root.glob("VOCdevkit/VOC20??"))]
    bases = [one for one in bases if (one / "JPEGImages").is_dir() and any((one / name).is_dir() for name in MASKS)]
    if not bases:
        return None
    if len(bases) > 1:
        years = [one.relative_to(root).as_posix() for one in bases]
        raise DataError(f"'{spec}' holds more than one Pascal VOC ({quoted(years)}). Name the folder of one of them.")
    here = bases[0].relative_to(root)
    masks = next((one for one in MASKS if files_below(root, root / here / one, MASK_SUFFIXES)), MASKS[0])
    part = ((here / "JPEGImages").as_posix(), (here / masks).as_posix(), "")
    found = "" if here == Path() else here.as_posix()
    for folder in LISTS:
        if (root / here / folder).is_dir():
            lists = find_lists(spec, root / here / folder, everything=True, need_train=need_train)
            if lists is not None:
                return Voc(found, part, lists)
    named = [file for file in (*LINE_FILES, *PALETTE_FILES, *WEAK_FILES) if (root / here / file).is_file()]
    if named and not (root / here / "ImageSets").is_dir():  # as labelme exports
        return Voc(found, part, None, ("No list names a split: all images with a mask are used.",))
    raise DataError(
        f"'{spec}' is laid out as Pascal VOC, but '{(here / LISTS[0]).as_posix()}' has no train.txt. "
        "List the images to train on there, one stem a line, and those to judge by in val.txt."
    )
