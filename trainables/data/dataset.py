"""The common form of a data set, whatever format it came in."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from visionsweep.core.tasks import task_kind

VOID = 255  # in every mask: a pixel that is neither learnt nor judged
SPLITS = ("train", "val", "test", "skipped", "duplicate")
UNJUDGED = "unjudged"  # a validation image that a search does not judge by, as it has enough others


class Reader(Protocol):
    """Decodes one image. Crosses process borders, so it is small and can be pickled."""

    def __call__(self, index: int) -> np.ndarray:
        """Return the image, (H, W, 3) uint8 RGB. Raises DataError or OSError if it cannot be read."""


class MaskReader(Protocol):
    """Decodes one mask. Crosses process borders, so it is small and can be pickled."""

    def __call__(self, index: int) -> np.ndarray:
        """Return the mask, (H, W) uint8 class indices and VOID, at its own size.

        Raises DataError if it is missing or wrong.
        """

    def name(self, index: int) -> str:
        """Return the mask's name for messages: its file, relative to the data's root."""


@dataclass(frozen=True)
class RemoteCopy:
    """A local copy of data on S3.

    uri     a folder on S3
    folder  where it is on each machine that has downloaded it
    path    what the user named, in that folder
    """

    uri: str
    folder: Path
    path: Path


@dataclass(frozen=True, eq=False)  # arrays have no plain equality: compare fingerprints
class Dataset:
    """Names, labels and split of N images and C classes. The pixels are elsewhere (`cache.py`).

    task         binary, multiclass, multilabel or segmentation
    classes      C names. Binary has two, and the second is the positive one. Segmentation: the names of the
                 indices in the masks, in their order, without void
    names        N file names relative to the data's root, or names like 'digits/0017'
    targets      binary and multiclass: (N,) int64 class index
                 multilabel: (N, C) uint8 of 0 and 1
                 segmentation: (N, C) int64, the pixels of each class in each mask (0 where it is unreadable)
    split        (N,) str: train, val, test, skipped (unreadable), duplicate (a copy left out of its split) or
                 unjudged (see `judged_part.py`). '' where the data is only judged and gives no split
    fingerprint  16 hex digits of a sha256 over names, file contents, classes and targets, or over the masks and how
                 they are read. It does not cover the split
    mask_reader  for segmentation only
    numbers      (256,) uint8 mask value -> index in `classes`, None if the masks hold the indices themselves
    copy         for data on S3: where it is, on this machine and on every other
    notes        sentences for the user, such as which images were skipped
    groups       (N,) int64: images with equal numbers stay together wherever the data is divided further. None: no two
                 do. They are the user's groups, exact copies and near duplicates
    alike        the sets of near duplicates, by name
    group        how the user named the groups, '' without any
    grouping     what these groups are, in words
    kept_back    whether test was drawn at the user's wish: nothing may look at it before it is asked for
    on_demand    None if every image was decoded when the data was loaded. Else images are decoded at each access,
                 and an unreadable one is an error, or with skip another one takes its place
    folds        (N,) int16: the fold of each image that is judged in turn, from 1, and 0 for all others. None: there
                 are no folds. The split's val is one of them (see `folds.py`)
    """

    spec: str
    task: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    targets: np.ndarray
    split: np.ndarray
    reader: Reader
    fingerprint: str
    split_origin: str
    notes: tuple[str, ...] = ()
    mask_reader: MaskReader | None = None
    copy: RemoteCopy | None = None
    numbers: np.ndarray | None = None
    on_demand: Literal["error", "skip"] | None = None
    groups: np.ndarray | None = None
    alike: tuple[tuple[str, ...], ...] = ()
    group: str = ""
    grouping: str = ""
    kept_back: bool = False
    folds: np.ndarray | None = None

    @property
    def num_folds(self) -> int:
        """Number of folds, 1 for data without any: a trial is judged once."""
        return 1 if self.folds is None else int(self.folds.max())

    def indices(self, split: str) -> np.ndarray:
        """Return the positions of a split, (n,) int64, ascending."""
        return np.flatnonzero(self.split == split).astype(np.int64)

    def groups_of(self, positions: np.ndarray) -> np.ndarray | None:
        """Return the groups of some images, (n,) int64, or None if no two images stay together."""
        return None if self.groups is None else self.groups[positions]

    def with_val_trained_on(self) -> Dataset:
        """Return the data with its validation images among the training images: none is left to judge by."""
        split = np.where(np.isin(self.split, ("val", UNJUDGED)), "train", self.split)
        return replace(self, split=split, folds=None, split_origin=f"{self.split_origin}; val is trained on too")

    def describe(self) -> dict[str, Any]:
        """Return the data's part of search.json: plain values that later identify the judged images and labels."""
        unjudged = self.split == UNJUDGED
        counts = {split: len(self.indices(split)) for split in SPLITS}
        return {
            "spec": self.spec,
            "task": self.task,
            "classes": list(self.classes),
            "fingerprint": self.fingerprint,
            "split_origin": self.split_origin,
            "counts": {**counts, UNJUDGED: int(unjudged.sum())} if unjudged.any() else counts,
            "val": [self.names[i] for i in self.indices("val")],
            "val_targets": self._val_targets(),
            "test": [self.names[i] for i in self.indices("test")],
            "notes": list(self.notes),
            **({"group": self.group, "grouping": self.grouping} if self.group else {}),
            **({"val_groups": groups} if (groups := self._val_groups()) is not None else {}),
            **({"kept_back": True} if self.kept_back else {}),
            **({"folds": self.num_folds} if self.folds is not None else {}),
            **({UNJUDGED: packed(unjudged)} if unjudged.any() else {}),
        }

    def _val_groups(self) -> list[int] | None:
        """Return one number per validation image, equal for those that belong together. None if no two do."""
        groups = self.groups_of(self.indices("val"))
        if groups is None:
            return None
        found, numbers = np.unique(groups, return_inverse=True)
        return [int(number) for number in numbers] if len(found) < len(groups) else None

    def _val_targets(self) -> list[int] | list[list[int]] | None:
        """Return one class index per validation image, for multilabel the indices of its labels, None for masks."""
        if task_kind(self.task).pixels:
            return None
        targets = self.targets[self.indices("val")]
        if task_kind(self.task).tags:
            return [np.flatnonzero(row).tolist() for row in targets]
        return [int(target) for target in targets]


def packed(chosen: np.ndarray) -> str:
    """Encode which of N images are chosen, (N,) bool, as text.

    The names of half a million images would make search.json 20 MB.
    """
    return base64.b64encode(zlib.compress(np.packbits(chosen).tobytes())).decode()


def unpacked(text: str, num_images: int) -> np.ndarray:
    """Decode the (N,) bool of `packed`. Raises ValueError for other text, or if N differs."""
    try:
        reader = zlib.decompressobj()
        content = reader.decompress(base64.b64decode(text, validate=True), num_images // 8 + 2)
        if len(content) != (num_images + 7) // 8:
            raise ValueError(f"it has {len(content)} bytes")
        return np.unpackbits(np.frombuffer(content, np.uint8), count=num_images).astype(bool)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"it does not say which of {num_images:,} images ({error})") from None
