"""Folders of images with their masks: the layouts of mask_layouts.py, paired, listed and coded.

Which image has which mask: mask_pairs.py. What the masks hold: mask_classes.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.data.mask_classes import find_coding
from trainables.data.mask_layouts import find_layout
from trainables.data.mask_lists import listed
from trainables.data.mask_pairs import MASK_ENDING, Pair, paired, turned_notes
from trainables.data.masks import MASK_SUFFIXES, MaskFiles, mask_digests
from trainables.data.read_as import ReadAs
from trainables.data.reading import FileReader, is_turned
from trainables.data.scan import MASK_LAYOUTS, Scan, digests_and
from trainables.data.walk import notes_below
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted

__all__ = ["find_layout", "scan_masks"]

JPEG = (".jpg", ".jpeg", ".JPG")


def scan_masks(spec: str, root: Path, read_as: ReadAs) -> Scan:
    """Scan images with their masks.

    An image without a mask is an error, or left out with a note if `read_as` skips bad images. Raises DataError if the
    folder has none of the layouts, or an image or a mask of a pair is missing.
    """
    # Pair images with masks in each part of the layout, and assign their splits.
    layout = find_layout(spec, root, read_as)
    if layout is None:
        raise DataError(f"no masks found in '{spec}'. {MASK_LAYOUTS}")
    pairs: list[Pair] = []
    notes = list(layout.notes)
    for images, masks, split in layout.parts:
        matched = paired(spec, root, images, masks)
        notes += matched.notes if split in ("", "train") else ()  # once is enough
        if layout.lists is not None:
            found, list_notes = listed(spec, layout.lists, matched.pairs, images, read_as.on_bad_image)
            notes += list_notes
        elif layout.as_voc:  # without lists, most of its images have no mask
            found = [pair for pair in matched.pairs if pair.mask]
        else:
            found = [pair.on(split) for pair in matched.pairs]
        found, missing = _with_masks(spec, root, found, masks, matched.lone_masks, read_as.on_bad_image)
        pairs += found
        notes += missing
        if matched.lone_masks:
            lone = matched.lone_masks
            notes.append(f"{counted(len(lone), 'mask')} left out, without an image: {quoted(lone)}.")
    if not pairs:
        why = notes_below(root, [images for images, _, _ in layout.parts])
        raise DataError(" ".join([f"no images with masks found in '{spec}'.", *why, MASK_LAYOUTS]))

    # Find what the masks' pixels mean.
    names = tuple(pair.image for pair in pairs)
    mask_names = tuple(pair.mask for pair in pairs)
    coding, coding_notes = find_coding(
        spec,
        root,
        mask_names,
        places=tuple(dict.fromkeys((layout.base, ""))),
        value_places=[folder for images, _, _ in layout.parts for folder in (images, Path(images).parent.as_posix())],
        as_voc=layout.as_voc,
        mask_values=read_as.mask_values,
    )
    notes += coding_notes
    # Digest the images, and note those that are turned by EXIF, in one pass over the files.
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
        among = not masks or first.image.startswith(f"{masks}/")
        wanted = f"{masks}/{first.stem}" if masks else first.stem
        wanted += MASK_ENDING if among else ""
        more = f" ({len(rest)} more like it)" if rest else ""
        beside = f" '{lone_masks[0]}' belongs to no image: masks need the stems of their images." if lone_masks else ""
        jpeg = next(
            (f"{masks}/{first.stem}{end}" for end in JPEG if (root / masks / f"{first.stem}{end}").is_file()), ""
        )
        if jpeg and jpeg != first.image:
            beside = (
                f" '{jpeg}' is no mask: JPEG's compression changes its values; masks are {', '.join(MASK_SUFFIXES)}."
            )
        raise DataError(
            f"{spec}: image '{first.image}' has no mask '{wanted}.*'{more}.{beside} Add it, list "
            "the images to use in train.txt and val.txt, or pass --on-bad-image skip to leave out what has no mask."
        )
    if missing:
        names = [pair.image for pair in missing]
        notes.append(f"{counted(len(names), 'image')} left out, without a mask: {quoted(names)}.")
    return [pair for pair in pairs if pair.mask], notes
