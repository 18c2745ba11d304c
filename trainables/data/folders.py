"""A folder of classes: DIR/class/*.jpg, or DIR/train/class, DIR/val/class and perhaps DIR/test/class."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from search_spaces.errors import DataError
from trainables.data.read_as import ReadAs
from trainables.data.reading import IMAGE_SUFFIXES, FileReader
from trainables.data.scan import Scan, class_order, content_digests
from trainables.data.words import below, counted, quoted

# What people call the folder -> which split it is.
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
NOT_DATA = ("Thumbs.db", "__MACOSX")  # left behind by Windows and by macOS archives

READ_AS = ReadAs()

LAYOUTS = (
    "Expected DIR/class/*.jpg, or DIR/train/class/*.jpg with DIR/val/class/*.jpg, or a labels.csv in DIR "
    f"(images end in {', '.join(IMAGE_SUFFIXES)})."
)


def scan_folder(spec: str, root: Path, read_as: ReadAs = READ_AS) -> Scan:
    """Classes are the folders' names; every image below a class's folder belongs to it, at any depth."""
    parts = _split_folders(spec, root)
    rows: list[tuple[str, str, str]] = []  # (name, class, split)
    for folder, split in parts.items():
        classes = _subfolders(root / folder)
        for class_name in classes:
            found = images_below(root, root / folder / class_name)
            if not found and split in ("", "train"):
                raise DataError(
                    f"class '{class_name}' has no image in '{below(spec, folder, class_name)}'. "
                    "Add its images, or remove the folder."
                )
            rows += [(name, class_name, split) for name in found]
    beside = [file.name for file in _entries(root) if file.is_file() and _has(file.name, IMAGE_SUFFIXES)]
    if not rows:
        where = f"{counted(len(beside), 'image')} found directly in it, but no folders of classes. " if beside else ""
        raise DataError(f"no images found in '{spec}'. {where}{LAYOUTS}")

    order = class_order(label for _, label, _ in rows)
    names = tuple(name for name, _, _ in rows)
    return Scan(
        classes=order,
        names=names,
        targets=np.array([order.index(label) for _, label, _ in rows], dtype=np.int64),
        given=np.array([split for _, _, split in rows]),
        digests=content_digests([root / name for name in names]),
        reader=FileReader(root.resolve(), names),
        notes=_notes(root, parts, beside),
    )


def _split_folders(spec: str, root: Path) -> dict[str, str]:
    """Folder below the root -> split; {'': ''} where the classes stand in the root itself.

    A folder called 'train' that holds images and no folders is a class: there are data sets of trains and planes.
    """
    found = {name: SPLIT_FOLDERS[name] for name in _subfolders(root) if name in SPLIT_FOLDERS}
    found = {name: split for name, split in found.items() if _subfolders(root / name)}
    if not found:
        return {"": ""}
    if "train" not in found:
        raise DataError(f"'{spec}' has {quoted(list(found))} but no 'train' folder of classes. {LAYOUTS}")
    if len(set(found.values())) < len(found):
        raise DataError(f"'{spec}' has more than one validation folder ({quoted(list(found))}). Keep one of them.")
    return found


def has_class_folders(root: Path) -> bool:
    """Whether there is DIR/train/class beside whatever else the folder holds, and 'train' has no masks of its own."""
    train = root / "train"
    if not train.is_dir() or (root / "trainannot").is_dir():
        return False
    return bool(set(_subfolders(train)) - {"images", "masks"})


def _notes(root: Path, parts: dict[str, str], beside: list[str]) -> tuple[str, ...]:
    notes = []
    if beside:
        notes.append(f"{counted(len(beside), 'image')} left out, beside the class folders: {quoted(beside)}.")
    ignored = [name for name in _subfolders(root) if name not in parts] if "" not in parts else []
    if ignored:
        notes.append(f"Folders beside {quoted(list(parts))} are left out: {quoted(ignored)}.")
    return tuple(notes)


def images_below(root: Path, folder: Path) -> list[str]:
    """Images at any depth, but not hidden ones: sorted names relative to the root, the same on every file system."""
    return files_below(root, folder, IMAGE_SUFFIXES)


def files_below(root: Path, folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """As `images_below`, for files of these suffixes."""
    names = []
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _hidden(name)]
        names += [Path(where, name).relative_to(root).as_posix() for name in files if _has(name, suffixes)]
    return sorted(names)


def _has(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not _hidden(name)


def _subfolders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if entry.is_dir()]


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not _hidden(entry.name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in NOT_DATA
