"""Data sets that torchvision knows by name and downloads: `torchvision:CIFAR10`."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from trainables.data.dataset import VOID
from trainables.data.mask_classes import VOC_CLASSES, index_coding
from trainables.data.masks import Coding, mask_digests, read_mask
from trainables.data.reading import read_image, to_rgb
from trainables.data.scan import Scan, bytes_digest, content_digests
from visionsweep.core.errors import DataError
from visionsweep.core.names import did_you_mean
from visionsweep.core.tasks import task_kind

Arguments = dict[str, dict[str, Any]]  # our split -> the constructor's arguments for it


@dataclass(frozen=True)
class NamedSet:
    """The attributes of torchvision's data set object that hold `labels` and `contents`.

    `contents` is an array of pixels, a list of files, or a list of (file, label).
    """

    splits: Arguments
    labels: str = "_labels"
    contents: str = "_image_files"
    classes: tuple[str, ...] | None = None  # where the object has no `classes`


@dataclass(frozen=True)
class MaskedSet:
    """The attributes of torchvision's object that list the files of `images` and `masks`.

    `folder` is the unpacked set, if torchvision would unpack it again each time.
    """

    splits: Arguments
    images: str
    masks: str
    coding: Coding
    folder: str = ""


BY_FLAG: Arguments = {"train": {"train": True}, "test": {"train": False}}
TRAIN_TEST: Arguments = {"train": {"split": "train"}, "test": {"split": "test"}}
TRAINVAL_TEST: Arguments = {"train": {"split": "trainval"}, "test": {"split": "test"}}
TRAIN_VAL_TEST: Arguments = {name: {"split": name} for name in ("train", "val", "test")}

NAMED_SETS = {
    "CIFAR10": NamedSet(BY_FLAG, "targets", "data"),
    "CIFAR100": NamedSet(BY_FLAG, "targets", "data"),
    "MNIST": NamedSet(BY_FLAG, "targets", "data"),
    "FashionMNIST": NamedSet(BY_FLAG, "targets", "data"),
    "KMNIST": NamedSet(BY_FLAG, "targets", "data"),
    "SVHN": NamedSet(TRAIN_TEST, "labels", "data", tuple(str(digit) for digit in range(10))),
    "STL10": NamedSet(TRAIN_TEST, "labels", "data"),
    "GTSRB": NamedSet(TRAIN_TEST, "", "_samples", tuple(f"sign {number:02d}" for number in range(43))),
    "DTD": NamedSet(TRAIN_VAL_TEST),
    "Flowers102": NamedSet(TRAIN_VAL_TEST),
    "Food101": NamedSet(TRAIN_TEST),
    "FGVCAircraft": NamedSet(TRAIN_VAL_TEST),
    "OxfordIIITPet": NamedSet(TRAINVAL_TEST, "_labels", "_images"),
}
VOC_SPLITS: Arguments = {name: {"image_set": name, "year": "2012"} for name in ("train", "val")}

MASKED_SETS = {
    "VOCSegmentation": MaskedSet(VOC_SPLITS, "images", "masks", index_coding(VOC_CLASSES), "VOCdevkit/VOC2012"),
    # Its trimaps: 1 the pet, 2 the background, 3 the outline between them, which nobody classified.
    "OxfordIIITPet": MaskedSet(
        TRAINVAL_TEST, "_images", "_segs", Coding(("background", "pet"), ((1, 1), (2, 0), (3, VOID)))
    ),
}

_opening = threading.Lock()


@dataclass(frozen=True)
class TorchvisionReader:
    """Read image `index` of the set's parts, one after the other. Each process opens the parts itself."""

    name: str
    root: Path

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        for part in _parts(self.name, self.root).values():
            if index < len(part):
                try:
                    return to_rgb(part[index][0])
                except SyntaxError as error:  # PIL's way of saying that a PNG is broken
                    raise DataError(f"an image of torchvision's {self.name} cannot be read: {error}") from error
            index -= len(part)
        raise IndexError(index)


@dataclass(frozen=True)
class TorchvisionPhotos:
    """Reads the file of image `index` of a masked set: torchvision's own way leaves the mask's file open."""

    set_name: str
    root: Path

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        file = _file(self.set_name, self.root, MASKED_SETS[self.set_name].images, index)
        return read_image(file, file.relative_to(self.root).as_posix())


@dataclass(frozen=True)
class TorchvisionMasks:
    """Reads the mask of image `index`."""

    set_name: str
    root: Path

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        return read_mask(self._file(index), self.name(index), MASKED_SETS[self.set_name].coding)

    def name(self, index: int) -> str:
        return self._file(index).relative_to(self.root).as_posix()

    def _file(self, index: int) -> Path:
        return _file(self.set_name, self.root, MASKED_SETS[self.set_name].masks, index)


def _file(name: str, root: Path, attribute: str, index: int) -> Path:
    for part in _parts(name, root).values():
        if index < len(part):
            return Path(getattr(part, attribute)[index])
        index -= len(part)
    raise IndexError(index)


def scan_torchvision(name: str, root: Path, task: str | None = None, *, fetch: bool = True) -> Scan:
    """Scan the set `name`, with its masks if `task` asks for them. It is downloaded below `root` if `fetch` allows.

    Raises DataError for a name that is in neither table, or if the set cannot be downloaded.
    """
    if name in MASKED_SETS and (task_kind(task).pixels or name not in NAMED_SETS):
        return _scan_masks(name, root, fetch)
    if name not in NAMED_SETS:
        raise DataError(f"unknown torchvision data set '{name}'. {did_you_mean(name, [*NAMED_SETS, *MASKED_SETS])}")
    named = NAMED_SETS[name]
    parts = _parts(name, root, fetch)
    targets = list[int]()
    names = list[str]()
    given = list[str]()
    digests = list[str]()
    for split, part in parts.items():
        names += [f"{name}/{split}/{i:06d}" for i in range(len(part))]
        given += [split] * len(part)
        targets += _labels(part, named)
        digests += _digests(part, named)
    classes = named.classes or tuple(str(label) for label in next(iter(parts.values())).classes)
    return Scan(
        classes=classes,
        names=tuple(names),
        targets=np.array(targets, dtype=np.int64),
        given=np.array(given),
        digests=tuple(digests),
        reader=TorchvisionReader(name, root),
    )


def _scan_masks(name: str, root: Path, fetch: bool) -> Scan:
    masked = MASKED_SETS[name]
    names = list[str]()
    given = list[str]()
    images = list[Path]()
    masks = list[Path]()
    for split, part in _parts(name, root, fetch).items():
        names += [f"{name}/{split}/{i:06d}" for i in range(len(part))]
        given += [split] * len(part)
        images += map(Path, getattr(part, masked.images))
        masks += map(Path, getattr(part, masked.masks))
    return Scan(
        classes=masked.coding.classes,
        names=tuple(names),
        targets=np.zeros((len(names), len(masked.coding.classes)), np.int64),
        given=np.array(given),
        digests=content_digests(images),
        reader=TorchvisionPhotos(name, root),
        mask_reader=TorchvisionMasks(name, root),
        mask_digests=mask_digests(masks, masked.coding),
    )


def _parts(name: str, root: Path, fetch: bool = True) -> dict[str, Any]:
    with _opening:  # lru_cache alone would let every decoding thread open the set for itself
        return _open(name, root, fetch)


@lru_cache(maxsize=2)
def _open(name: str, root: Path, fetch: bool) -> dict[str, Any]:
    from torchvision import datasets  # seconds of import that other data sets need not wait for

    parts = {}
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{name}.lock"):  # one process downloads, the others find it there
            known = NAMED_SETS.get(name) or MASKED_SETS[name]
            unpacked = isinstance(known, MaskedSet) and known.folder and (root / name / known.folder).is_dir()
            for split, arguments in known.splits.items():
                parts[split] = getattr(datasets, name)(root / name, download=fetch and not unpacked, **arguments)
    except (OSError, RuntimeError, ValueError, EOFError) as error:  # no network, a broken archive, a full disk
        raise DataError(
            f"torchvision's {name} cannot be had in '{root / name}': {str(error).splitlines()[0]}. "
            "Where there is no network, download it on another machine and copy that folder here."
        ) from error
    return parts


def _labels(part: Any, named: NamedSet) -> list[int]:
    if not named.labels:
        return [int(label) for _, label in getattr(part, named.contents)]
    return [int(label) for label in getattr(part, named.labels)]


def _digests(part: Any, named: NamedSet) -> list[str]:
    contents = getattr(part, named.contents)
    if named.contents == "data":
        return [bytes_digest(np.ascontiguousarray(image).tobytes()) for image in np.asarray(contents)]
    return list(content_digests([Path(entry[0] if isinstance(entry, tuple) else entry) for entry in contents]))
