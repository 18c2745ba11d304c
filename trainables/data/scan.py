"""The result of every format's scan: names, labels and contents, before anything is decoded or split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from trainables.data.dataset import MaskReader, Reader
from trainables.data.plain_files import open_plain
from visionsweep.core.cores import num_cores
from visionsweep.core.errors import DataError
from visionsweep.core.names import did_you_mean
from visionsweep.core.tasks import TASKS
from visionsweep.core.words import quoted

T = TypeVar("T")
CHUNK = 64  # files that a thread reads before it asks for more

MASK_LAYOUTS = (
    "Masks stand in DIR/images with DIR/masks, in DIR/train with DIR/trainannot (as CamVid), or in DIR/JPEGImages with "
    "DIR/SegmentationClass (as Pascal VOC); 'digits:segmentation' ships with visionsweep."
)


@dataclass(frozen=True, eq=False)
class Scan:
    """N images and C classes as the data names them.

    targets  (N,) int64, or (N, C) uint8 where an image can have several labels, or (N, C) zeros where there are
             masks, as nothing is decoded yet
    given    (N,) str: train, val or test, '' where the data gives none
    digests  N hashes of the images' contents: equal ones are exact copies
    mask_reader, mask_digests
             for segmentation only. The N digests cover the masks' contents and how they are read
    groups   (N,) int64: images with equal numbers stay on one side of every split, None: nothing is said
    grouped_by  in words, what gave the groups
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    targets: np.ndarray
    given: np.ndarray
    digests: tuple[str, ...]
    reader: Reader
    notes: tuple[str, ...] = ()
    mask_reader: MaskReader | None = None
    mask_digests: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    grouped_by: str = ""

    @property
    def pixels(self) -> bool:
        """Whether there are masks."""
        return self.mask_reader is not None

    @property
    def one_label(self) -> bool:
        """Whether an image has exactly one label."""
        return self.targets.ndim == 1

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when a name, a file's contents, a class, a label or a mask does."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        for name, content in zip(self.names, self.digests, strict=True):
            digest.update(f"\0{name}\0{content}".encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(self.targets).tobytes())
        if self.pixels:  # the same images with labels must not find this cache
            digest.update(b"\0masks\0" + "\0".join(self.mask_digests).encode())
        return digest.hexdigest()[:16]

    def task(self, asked: str | None, *, for_training: bool = True) -> str:
        """Return the task that the labels allow: the one asked for, or the natural one. Raises DataError if they
        disagree.

        for_training: False if a model of the asked task is judged, which may know more classes than the data has.
        """
        # Refuse unknown tasks, and data with a single class.
        if asked is not None and asked not in TASKS:
            raise DataError(f"unknown task '{asked}'. {did_you_mean(asked, TASKS)}")
        if len(self.classes) < 2 and for_training:
            move = (
                "Name all that the masks can hold in classes.txt, one a line; void does not count."
                if self.pixels
                else "Put each class's images in a folder of its own, or name the classes in labels.csv."
            )
            raise DataError(
                f"a data set needs at least two classes, got {len(self.classes)} ({quoted(self.classes)}). {move}"
            )
        # Masks and labels are different tasks.
        if self.pixels:
            check_masks_wanted(asked)
            return "segmentation"
        if asked == "segmentation":
            raise DataError(f"task 'segmentation' needs masks, but this data has labels only. {MASK_LAYOUTS}")
        # Labels allow their natural task. Two classes may also be trained as multiclass.
        natural = "multilabel" if not self.one_label else "binary" if len(self.classes) == 2 else "multiclass"
        if asked in (None, natural) or (natural, asked) == ("binary", "multiclass"):
            return asked or natural
        if not for_training and {asked, natural} == {"binary", "multiclass"}:
            return asked
        # Everything else is an error, which names the way out.
        if asked == "multilabel":
            raise DataError(
                "task 'multilabel' needs several labels per image, but this data gives each image one class. "
                f"Pass --task {natural}, or write a labels.csv with a `labels` column ('cat|dog') or 0/1 columns."
            )
        if natural == "multilabel":
            raise DataError(
                f"task '{asked}' needs one class per image, but this data gives each image any number of labels. "
                "Pass --task multilabel, or write a labels.csv with a `label` column."
            )
        raise DataError(
            f"task 'binary' needs exactly two classes, got {len(self.classes)} ({quoted(self.classes)}). "
            "Pass --task multiclass."
        )


def check_masks_wanted(asked: str | None) -> None:
    """Raise DataError if a task that needs labels is asked of data that has masks only."""
    if asked not in (None, "segmentation"):
        raise DataError(
            f"task '{asked}' needs a label for each image, but this data has masks. Pass --task segmentation, or give "
            "labels: DIR/class/*.jpg, DIR/train/class/*.jpg with DIR/val/class/*.jpg, or a labels.csv in DIR."
        )


def class_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Return sorted class names. Numbers are sorted by value, so '10' comes after '9'."""
    names = set(labels)
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def content_digests(paths: Sequence[Path | str]) -> tuple[str, ...]:
    """Return the sha1 of each file. A file that cannot be opened gets a unique digest, and decoding reports it."""
    return tuple(digest for digest, _ in digests_and(lambda _: None, paths))


def digests_and(look: Callable[[IO[bytes]], T], paths: Sequence[Path | str]) -> list[tuple[str, T | None]]:
    """Return `content_digests`, each with the result of `look` for the open file.

    Each file is opened once for both. A file with many names is read once.
    """
    known: dict[tuple[int, int], tuple[str, T | None]] = {}

    def of(path: Path | str) -> tuple[str, T | None]:
        try:
            status = os.stat(path)
            file = status.st_dev, status.st_ino
            if file not in known:
                known[file] = _file_digest(path, look)
            return known[file]
        except OSError:
            return f"unreadable:{Path(path).name}", None

    # Many files a task: of half a million small ones the tasks would cost more than the files.
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(num_cores()) as pool:
        return [one for chunk in pool.map(lambda chunk: [of(path) for path in chunk], chunks) for one in chunk]


def bytes_digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _file_digest(path: Path | str, look: Callable[[IO[bytes]], T]) -> tuple[str, T | None]:
    with open_plain(path) as file:
        digest = hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
        file.seek(0)
        return digest, look(file)
