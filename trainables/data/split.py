"""Split images into train, val and test: the data's own split, or a seeded, stratified one.

Exact copies (equal file contents) are never on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.scan import Scan
from trainables.data.split_checks import (
    check_both_sides,
    check_enough,
    check_same_classes,
    check_something_known,
    label_notes,
)
from trainables.data.stratify import stratified_val, stratified_val_multilabel
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted

MOST_PAIRS = 5


@dataclass(frozen=True, eq=False)
class Split:
    """The split of N images. `of` is (N,) str: train, val, test, skipped or duplicate, or '' for images only judged."""

    of: np.ndarray
    origin: str
    notes: tuple[str, ...]


def split_data(scan: Scan, bad: Sequence[int], seed: int, val_fraction: float, *, for_training: bool = True) -> Split:
    """Split the data. It depends only on the data and the seed, not on the trial.

    A given split is kept. If val is missing, `val_fraction` of each class is split off train: at least one image and
    never all of them. Without `for_training` nothing is split off or required, and images without a given split have
    ''.

    Raises DataError where a side is empty, or a class cannot be on both.
    """
    if not 0 < val_fraction < 1:
        raise DataError(f"the validation share must lie between 0 and 1, got {val_fraction:g}. 0.2 is usual.")
    # Start from the given split, without unreadable images and without copies across sides.
    split = scan.given.astype("<U9")
    split[list(bad)] = "skipped"
    groups = _copies(scan.digests)
    if for_training:
        check_enough(scan, split, groups)
    notes = _leave_out_copies(split, scan, groups)
    if not for_training:
        origin = "given by the data" if scan.given.any() else "none"
        return Split(split, origin, (*notes, *_contradictions(scan, split, groups)))

    # Draw val if the data gives none. Copies are drawn together.
    if "val" in scan.given:
        origin = "given by the data"
    else:
        pool = np.flatnonzero((split == "") | (split == "train"))
        if not len(pool):
            raise DataError("no image is left to train on: the data gives test images only. Add training images.")
        in_val = _draw_val(scan, pool, groups, seed, val_fraction)
        split[pool] = np.where(in_val, "val", "train")
        origin = f"stratified, {val_fraction:.0%} val, seed {seed}"
        if "test" in scan.given:
            origin += " (split off train; test given by the data)"
        together = len(pool) - len(np.unique(groups[pool]))
        if together:
            notes.append(
                f"{counted(together, 'image')} repeat{'s' if together == 1 else ''} another one exactly; "
                "copies stand on the same side of the split."
            )
    # Check both sides, and note labels that one of them lacks.
    check_both_sides(scan, split)
    check_something_known(scan, split)
    check_same_classes(scan, split)
    notes += label_notes(scan, split) + _contradictions(scan, split, groups)
    return Split(split, origin, tuple(notes))


def _copies(digests: Sequence[str]) -> np.ndarray:
    """Return the group of each image, (N,) int64. Images with equal contents share one."""
    number: dict[str, int] = {}
    return np.array([number.setdefault(digest, len(number)) for digest in digests], dtype=np.int64)


def _leave_out_copies(split: np.ndarray, scan: Scan, groups: np.ndarray) -> list[str]:
    """Mark, in place, the training copies of val and test images, and the val copies of test images, 'duplicate'."""
    notes = []
    for judged, others in (("test", ("", "train", "val")), ("val", ("", "train"))):
        copies = np.isin(split, others) & np.isin(groups, groups[split == judged])
        if not copies.any():
            continue
        sides = sorted({side or "train" for side in split[copies].tolist()})
        names = [scan.names[i] for i in np.flatnonzero(copies)]
        notes.append(
            f"{counted(len(names), 'image')} left out of {' and '.join(sides)}, "
            f"as {judged} has an exact copy: {quoted(names)}."
        )
        split[copies] = "duplicate"
    return notes


def _draw_val(scan: Scan, pool: np.ndarray, groups: np.ndarray, seed: int, val_fraction: float) -> np.ndarray:
    """Return which images of the pool go to val, (len(pool),) bool. Copies are drawn together, by their first image."""
    _, first, group_of = np.unique(groups[pool], return_index=True, return_inverse=True)
    targets = scan.targets[pool[first]]  # (groups,) or (groups, C)
    draw = stratified_val_multilabel if targets.ndim == 2 else stratified_val
    in_val: np.ndarray = draw(targets, val_fraction, seed)[group_of]
    return in_val


def _contradictions(scan: Scan, split: np.ndarray, groups: np.ndarray) -> list[str]:
    """A note for each of the first few images whose copies carry other labels, or other masks."""
    masked = scan.mask_reader is not None
    first_of: dict[int, int] = {}
    pairs: list[tuple[str, str]] = []
    for i in np.flatnonzero(split != "skipped").tolist():
        first = first_of.setdefault(int(groups[i]), i)
        if (
            scan.mask_digests[first] != scan.mask_digests[i]
            if masked
            else not np.array_equal(scan.targets[first], scan.targets[i])
        ):
            pairs.append((scan.names[first], scan.names[i]))
    what = "masks" if masked else "labels"
    return [f"Exact copies with different {what}, of which one must be wrong: {quoted(p)}." for p in pairs[:MOST_PAIRS]]
