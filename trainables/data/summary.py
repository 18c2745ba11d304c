"""A data set in one line, to be read before anything is spent on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.data.dataset import UNJUDGED, Dataset
from trainables.data.scan import Scan
from visionsweep.core.tasks import task_kind
from visionsweep.core.words import counted

MOST_CLASSES = 6  # of more, the largest, the smallest and how many others


def summary(dataset: Dataset) -> str:
    """Return what was found, in which classes, and on which side of the split, as one line.

        photos: 396 images, 2 classes (ants 192, bees 204); 243 to train on, 153 to judge by (the folder's own split)

    Masks give each class's share of the pixels. Images that were left out are not counted: notes list them.
    """
    used = np.isin(dataset.split, ("train", "val", "test", UNJUDGED))
    masked = task_kind(dataset.task).pixels
    counts = {split: len(dataset.indices(split)) for split in ("train", "val", "test")}
    unjudged = len(dataset.indices(UNJUDGED))
    purposes = {"train": "to train on", "val": "to judge by", "test": "to test on"}
    of_all = {"val": f" of {counts['val'] + unjudged:,}"} if unjudged else {}
    sides = ", ".join(f"{count:,}{of_all.get(split, '')} {purposes[split]}" for split, count in counts.items() if count)
    found = _found(int(used.sum()), dataset.classes, dataset.targets[used], masked)
    return f"{name_of(dataset.spec)}: {found}; {sides} ({_origin(dataset)})"


def scan_summary(spec: str, scan: Scan) -> str:
    """Return the summary of data that is not decoded or split yet. The classes of masks have no shares then."""
    masked = scan.pixels
    found = _found(len(scan.names), scan.classes, scan.targets, masked)
    grouping = ""
    if scan.groups is not None:
        grouping = f"; {counted(len(np.unique(scan.groups)), 'group')} by {scan.grouped_by}"
    return f"{name_of(spec)}: {found}{grouping}"


def name_of(spec: str) -> str:
    """Return a data set's short name: the last part of a path, an address or a built-in name as it is."""
    return Path(spec).name if Path(spec).is_absolute() else spec


def _found(num_images: int, classes: tuple[str, ...], targets: np.ndarray, masked: bool) -> str:
    """Return how many images of which classes. targets: (n,) class numbers, or (n, C) tags or pixels."""
    one_each = targets.ndim == 1
    # (C,) images of each class or tag, or pixels of each class
    counts = np.bincount(targets, minlength=len(classes)) if one_each else targets.sum(axis=0, dtype=np.int64)
    words = [f" {count:,}" for count in counts.tolist()]
    if masked:
        total = counts.sum()
        words = [f" {100 * count / total:.1f}%" if total else "" for count in counts.tolist()]
    listed = [_in_line(name) + word for name, word in zip(classes, words, strict=True)]
    images = counted(num_images, "image") + (" with masks" if masked else "")
    one, several = ("class", "classes") if one_each or masked else ("tag", "tags")
    what = f"{len(listed)} {one if len(listed) == 1 else several}"
    if len(listed) <= MOST_CLASSES:
        return f"{images}, {what} ({', '.join(listed)})"
    largest = int(counts.argmax())
    smallest = int(counts.argmin())
    if largest == smallest:  # all have as many
        return f"{images}, {what} (each{words[0]})" if words[0] else f"{images}, {what}"
    return f"{images}, {what} (largest {listed[largest]}, smallest {listed[smallest]}, {len(listed) - 2} more)"


def _in_line(name: str) -> str:
    """Return a class's name on one line. A number is quoted, as the count follows it."""
    name = " ".join(name.split())
    return f"'{name}'" if name[-1:].isdecimal() else name


def _origin(dataset: Dataset) -> str:
    """Return whose split it is."""
    if dataset.split_origin != "given by the data":
        return f"split drawn: {dataset.split_origin}"
    kind = "table" if dataset.spec.lower().endswith(".csv") else "folder" if Path(dataset.spec).is_dir() else "data"
    return f"the {kind}'s own split" + (f"; {dataset.grouping}" if dataset.grouping else "")
