"""Split images into train, val and test: the data's own split, or a seeded, stratified one.

Exact copies (equal file contents) are never on both sides. Groups are never torn apart by what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.near import near_notes, with_near
from trainables.data.scan import Scan
from trainables.data.split_checks import (
    check_both_sides,
    check_enough,
    check_same_classes,
    check_something_known,
    label_notes,
)
from trainables.data.stratify import stratified_val, stratified_val_multilabel
from trainables.data.stratify_groups import stratified_groups
from trainables.data.together import check_groups, copies, grouping, joined, separated
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted

MOST_PAIRS = 5
ENOUGH_TO_TEST = 200  # images, which tell 90% right to 4 points (95%)


@dataclass(frozen=True, eq=False)
class Split:
    """The split of N images.

    of        (N,) str: train, val, test, skipped or duplicate, or '' for images only judged
    groups    (N,) int64: images with equal numbers stay together wherever train is divided further. None: no two do
    grouping  what the user's groups are, in words, or ''
    kept_back whether test was drawn for the user, and not given by the data
    """

    of: np.ndarray
    origin: str
    notes: tuple[str, ...]
    groups: np.ndarray | None = None
    grouping: str = ""
    kept_back: bool = False


def split_data(
    scan: Scan,
    bad: Sequence[int],
    seed: int,
    val_fraction: float,
    *,
    test_fraction: float | None = None,
    near: np.ndarray | None = None,
    for_training: bool = True,
) -> Split:
    """Split the data. It depends only on the data and the seed, not on the trial.

        scan           its groups, if there are any, are drawn as a whole
        bad            images that cannot be read
        seed           of what is drawn
        val_fraction   share of each class that is split off train if the data gives no val: at least one image and
                       never all of them
        test_fraction  share that is kept back as test first, None: none
        near           (N,) sets of near duplicates, or None. They are drawn together too
        for_training   False: nothing is split off or required, and images without a given split have ''

    A given split is kept. Raises DataError where a side is empty, or a class cannot be on both.
    """
    if not 0 < val_fraction < 1:
        raise DataError(f"the validation share must lie between 0 and 1, got {val_fraction:g}. 0.2 is usual.")
    # Start from the given split, without unreadable images and without copies across sides.
    split = scan.given.astype("<U9")
    split[list(bad)] = "skipped"
    alike = copies(scan.digests)
    sets = alike if scan.groups is None else joined(alike, scan.groups)
    if for_training:
        check_enough(scan, split, alike)
    notes = _leave_out_copies(split, scan, alike)
    if not for_training:
        origin = "given by the data" if scan.given.any() else "none"
        return Split(split, origin, (*notes, *_contradictions(scan, split, alike)))

    # Keep a test split back, and draw val if the data gives none. What belongs together is drawn together.
    drawn = list[str]()
    if test_fraction is not None:
        pool = _pool(split)
        notes.append(_keep_back(scan, split, sets, with_near(scan, sets, near, pool), seed, test_fraction))
        drawn.append(f"{test_fraction:.0%} test")
    if "val" not in scan.given:
        pool = _pool(split)
        check_groups(scan, sets, pool, 2)
        share = val_fraction / (1 - (test_fraction or 0))  # of all images, as if no test had been kept back
        whole = with_near(scan, sets, near, pool)
        split[pool] = np.where(_draw(scan, pool, whole, seed, min(share, 0.9)), "val", "train")
        drawn.insert(0, f"{val_fraction:.0%} val")
        together = len(pool) - len(np.unique(alike[pool]))
        if together:
            notes.append(
                f"{counted(together, 'image')} repeat{'s' if together == 1 else ''} another one exactly; "
                "copies stand on the same side of the split."
            )
    origin = f"stratified, {', '.join(drawn)}, seed {seed}" if drawn else "given by the data"
    given = [side for side in ("val", "test") if side in scan.given]
    if drawn and given:
        origin += f" (split off train; {given[0]} given by the data)"
    whose = grouping(scan, split)
    if drawn and whose:
        origin += f"; {whose}"
    # Check both sides, and note labels that one of them lacks.
    check_both_sides(scan, split)
    check_something_known(scan, split)
    check_same_classes(scan, split)
    notes += label_notes(scan, split) + _contradictions(scan, split, alike) + separated(scan, split)
    notes += near_notes(scan, split, near, alike, "val" not in scan.given)
    together_in_folds = sets if near is None else joined(sets, near)
    return Split(
        split,
        origin,
        tuple(notes),
        groups=together_in_folds if len(np.unique(together_in_folds)) < len(sets) else None,
        grouping=whose,
        kept_back=test_fraction is not None,
    )


def _pool(split: np.ndarray) -> np.ndarray:
    """Return the positions of the images that val and test are drawn from."""
    pool = np.flatnonzero((split == "") | (split == "train"))
    if not len(pool):
        raise DataError("no image is left to train on: the data gives test images only. Add training images.")
    return pool


def _keep_back(scan: Scan, split: np.ndarray, sets: np.ndarray, whole: np.ndarray, seed: int, fraction: float) -> str:
    """Mark a share of the images 'test', in place, and return what that costs.

    sets: what has to stay together. whole: with near duplicates.
    """
    if "test" in scan.given:
        raise DataError(
            f"--test {fraction:.0%} would keep a test split back, but the data gives one "
            f"({counted(int((split == 'test').sum()), 'image')}). Leave out --test."
        )
    pool = _pool(split)
    # Each class keeps images for the sides that are still to be filled.
    left = 1 if "val" in scan.given else 2
    check_groups(scan, sets, pool, left + 1)
    in_test = stratified_groups(scan.targets[pool], whole[pool], fraction, seed, left)
    split[pool[in_test]] = "test"
    if not in_test.any():
        raise DataError(
            f"--test {fraction:.0%} leaves no image for test: no class can spare one beside those to train on and to "
            "judge by. Add images, or leave out --test."
        )
    return cost_of_test(int(in_test.sum()), len(pool), fraction)


def cost_of_test(num_test: int, num_images: int, fraction: float) -> str:
    """Return a sentence on what is kept back, and for a small split on what its scores can tell."""
    said = (
        f"--test {fraction:.0%} keeps {num_test:,} of {num_images:,} images back: `evaluate --split test` judges them."
    )
    if num_test >= ENOUGH_TO_TEST:
        return said
    points = 100 * 1.96 * math.sqrt(0.9 * 0.1 / num_test)
    return (
        f"{said} They are missing from training and choice, and {counted(num_test, 'image')} tell 90% right only to "
        f"about ±{points:.0f} points: {ENOUGH_TO_TEST} tell it to ±4."
    )


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


def _draw(scan: Scan, pool: np.ndarray, sets: np.ndarray, seed: int, fraction: float) -> np.ndarray:
    """Return which images of the pool go to val, (len(pool),) bool.

    Copies are drawn together, by their first image. Groups and near duplicates are drawn by all their images.
    """
    if scan.groups is not None or len(np.unique(sets[pool])) < len(np.unique(copies([scan.digests[i] for i in pool]))):
        return stratified_groups(scan.targets[pool], sets[pool], fraction, seed)
    _, first, set_of = np.unique(sets[pool], return_index=True, return_inverse=True)
    targets = scan.targets[pool[first]]  # (sets,) or (sets, C)
    draw = stratified_val if scan.one_label else stratified_val_multilabel
    in_val: np.ndarray = draw(targets, fraction, seed)[set_of]
    return in_val


def _contradictions(scan: Scan, split: np.ndarray, groups: np.ndarray) -> list[str]:
    """A note for each of the first few images whose copies carry other labels, or other masks."""
    first_of: dict[int, int] = {}
    pairs: list[tuple[str, str]] = []
    for i in np.flatnonzero(split != "skipped").tolist():
        first = first_of.setdefault(int(groups[i]), i)
        if (
            scan.mask_digests[first] != scan.mask_digests[i]
            if scan.pixels
            else not np.array_equal(scan.targets[first], scan.targets[i])
        ):
            pairs.append((scan.names[first], scan.names[i]))
    what = "masks" if scan.pixels else "labels"
    return [f"Exact copies with different {what}, of which one must be wrong: {quoted(p)}." for p in pairs[:MOST_PAIRS]]
