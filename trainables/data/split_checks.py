"""Check a split before anything is trained on it."""

from __future__ import annotations

import numpy as np

from trainables.data.scan import Scan
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted


def check_enough(scan: Scan, split: np.ndarray, groups: np.ndarray) -> None:
    """Raise DataError if a class has fewer than two distinct images. Rare tags of a multilabel set only get a note."""
    if not scan.one_label:
        return
    kept = split != "skipped"
    for index, name in enumerate(scan.classes):
        images = np.flatnonzero(kept & (scan.targets == index))
        distinct = len(np.unique(groups[images]))
        if distinct < 2:
            copies = f" ({len(images)} exact copies of it)" if len(images) > 1 else ""
            raise DataError(
                f"class '{name}' has {'one' if distinct else 'no readable'} image{copies}; "
                "a class needs two at least, one to train on and one to judge by. Add images, or remove the class."
            )


def check_both_sides(scan: Scan, split: np.ndarray) -> None:
    """Raise DataError if train or val is empty."""
    if "train" not in split:
        if "duplicate" in split:
            raise DataError(
                "no image is left to train on: every training image is an exact copy of one to judge by. "
                "Give train and val different images."
            )
        raise DataError("no image is left to train on: the split gives none to train. Mark some rows 'train'.")
    if "val" not in split:
        ended_as = set(split[scan.given == "val"].tolist())
        if not ended_as:  # val was to be drawn
            why = "there is only one distinct image to draw it from"
            move = "Add images."
        elif "duplicate" in ended_as:
            why = "every validation image is an exact copy of a test image"
            move = "Give val and test different images."
        else:
            why = "no validation image can be read"
            move = "Replace them, or give no split and let it be drawn."
        raise DataError(f"no image is left to judge by: {why}. {move}")


def check_something_known(scan: Scan, split: np.ndarray) -> None:
    """Raise DataError if all masks of train, or of val, are void. Those of test may be, if they are kept secret."""
    if not scan.pixels:
        return
    for side, purpose in (("train", "learn"), ("val", "judge by")):
        if not scan.targets[split == side].any():
            count = int((split == side).sum())
            raise DataError(
                f"there is nothing to {purpose}: every pixel of the {side} masks is void ({counted(count, 'mask')}). "
                "Correct what classes.txt or the palette calls void, or give masks with classes."
            )


def check_same_classes(scan: Scan, split: np.ndarray) -> None:
    """Raise DataError if train and val do not hold the same classes, or test holds one that train does not."""
    if not scan.one_label:
        return
    train, val, test = (set(scan.targets[split == side].tolist()) for side in ("train", "val", "test"))
    differing = [
        f"{quoted([scan.classes[i] for i in sorted(extra)])} only in {side}"
        for side, extra in (("train", train - val), ("val", val - train))
        if extra
    ]
    if differing:
        raise DataError(
            f"train and val hold different classes: {'; '.join(differing)}. "
            "Move images so that each class stands in both, or give no split and let it be drawn."
        )
    if test - train:
        names = quoted([scan.classes[i] for i in sorted(test - train)])
        raise DataError(
            f"test holds classes that train does not: {names}. Move some of their images to train, or remove them."
        )


def label_notes(scan: Scan, split: np.ndarray) -> list[str]:
    """Return notes about labels, or classes of masks, that a side never shows. Their scores mean nothing."""
    if scan.one_label:
        return []
    where, one, several = ("mask", "class", "classes") if scan.pixels else ("image", "label", "labels")
    notes = []
    for side in ("train", "val"):
        never = [
            name for name, count in zip(scan.classes, scan.targets[split == side].sum(0), strict=True) if not count
        ]
        if never:
            these = f"these {several}" if len(never) > 1 else f"this {one}"
            notes.append(f"No {side} {where} has {these}: {quoted(never)}.")
    return notes
