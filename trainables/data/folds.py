"""Folds of a data set: each image of train and val is judged once, by a model that has not seen it.

Fold 1 is the validation split of all that knows no folds. The others take its place in turn. They are drawn by the same
rules as a split: stratified, with groups, exact copies and near duplicates on one side.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainables.data.dataset import UNJUDGED, Dataset
from trainables.data.read_as import FEWEST_FOLDS, check_folds
from trainables.data.scan import Scan
from trainables.data.stratify import stratified_val, stratified_val_multilabel
from trainables.data.stratify_groups import stratified_groups
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted


def pooled(scan: Scan, num_folds: int) -> Scan:
    """Return the scan with its own val split among the training images, and a note on that."""
    given = int((scan.given == "val").sum())
    if not given:
        return scan
    note = f"The data's own val split ({counted(given, 'image')}) joins train: {num_folds} folds are drawn over both."
    return replace(scan, given=np.where(scan.given == "val", "train", scan.given), notes=(*scan.notes, note))


def with_folds(dataset: Dataset, num_folds: int, seed: int) -> Dataset:
    """Return the data with folds over its train and val images, and the first fold as val.

    Raises DataError if a class, or the whole, has fewer images or groups than there are folds.
    """
    check_folds(num_folds)
    pool = np.flatnonzero(np.isin(dataset.split, ("train", "val", UNJUDGED)))
    groups = pool if dataset.groups is None else dataset.groups[pool]
    # By the classes that each mask shows: their pixels differ in number.
    targets = dataset.targets[pool]
    if targets.ndim == 2:
        targets = (targets > 0).astype(np.uint8)
    _check_enough(dataset, targets, groups, num_folds)
    folds = np.zeros(len(dataset.names), np.int16)
    folds[pool] = draw_folds(targets, None if dataset.groups is None else groups, num_folds, seed)
    _check_classes(dataset, folds, num_folds)
    origin = f"{num_folds} folds, stratified, seed {seed}"
    if dataset.kept_back:
        origin += f"; {counted(len(dataset.indices('test')), 'image')} kept back"
    if dataset.grouping:
        origin += f"; {dataset.grouping.partition(',')[0]}, each in one fold"
    return of_fold(replace(dataset, folds=folds, split_origin=origin), 1)


def of_fold(dataset: Dataset, fold: int) -> Dataset:
    """Return data with folds, judged by one of them, from 1. All others are trained on."""
    assert dataset.folds is not None
    split = np.where(dataset.folds == fold, "val", np.where(dataset.folds > 0, "train", dataset.split))
    return replace(dataset, split=split)


def judged_in_turn(dataset: Dataset) -> list[np.ndarray]:
    """Return the images of each fold, (n,) int64, or those of val alone for data without folds."""
    if dataset.folds is None:
        return [dataset.indices("val")]
    return [of_fold(dataset, fold).indices("val") for fold in range(1, dataset.num_folds + 1)]


def fewest_trained(dataset: Dataset) -> int:
    """Return the size of the training set, with folds the smallest of theirs."""
    if dataset.folds is None:
        return len(dataset.indices("train"))
    return int((dataset.folds > 0).sum()) - max(len(positions) for positions in judged_in_turn(dataset))


def draw_folds(targets: np.ndarray, groups: np.ndarray | None, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold (N,) of each image, from 1.

        targets    (N,) int, or (N, C) where an image belongs to every class above 0
        groups     (N,) int: images with equal numbers share a fold; None: no two do
        num_folds  2 or more
        seed       of the draws

    One fold after the other is drawn from what is left, as a validation split is: fold 1 of five is the split of 20%.
    """
    folds = np.full(len(targets), num_folds)
    left = np.arange(len(targets))
    for fold in range(1, num_folds):
        num_left = num_folds - fold  # folds that still have to be filled
        share = 1 / (num_left + 1)
        if groups is not None:
            drawn = stratified_groups(targets[left], groups[left], share, seed, num_left)
        else:
            draw = stratified_val_multilabel if targets.ndim == 2 else stratified_val
            drawn = draw(targets[left], share, seed)
        folds[left[drawn]] = fold
        left = left[~drawn]
    return folds


def _check_enough(dataset: Dataset, targets: np.ndarray, groups: np.ndarray, num_folds: int) -> None:
    if targets.ndim == 1:
        numbers = [len(np.unique(groups[targets == index])) for index in range(len(dataset.classes))]
        num = min(numbers)
        whose = f"class '{dataset.classes[numbers.index(num)]}'"
        every = "each class into every fold"
    else:
        num = len(np.unique(groups))
        whose = "the data"
        every = "images into every fold"
    if num >= num_folds:
        return
    what = counted(num, "image") if dataset.groups is None else f"{num} images or groups that stay together"
    move = f"Pass --folds {num}, or add images." if num >= FEWEST_FOLDS else "Add images, or leave out --folds."
    raise DataError(f"--folds {num_folds} puts {every}, and {whose} has {what}. {move}")


def _check_classes(dataset: Dataset, folds: np.ndarray, num_folds: int) -> None:
    """Raise DataError if a fold lacks a class, or has no image. Rare tags may be missing."""
    for fold in range(1, num_folds + 1):
        of = dataset.targets[folds == fold]
        missing = [] if of.ndim == 2 else [name for index, name in enumerate(dataset.classes) if index not in of]
        if len(of) and not missing:
            continue
        lacks = f"has no image of {quoted(missing)}" if missing else "has no image"
        raise DataError(
            f"--folds {num_folds}: fold {fold} {lacks}, as what belongs together shares a fold and there are few such "
            f"groups. Pass {'fewer --folds' if num_folds > FEWEST_FOLDS else 'a finer --group'}, or add images."
        )
