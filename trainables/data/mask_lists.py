"""The lists that say which images are used for what: train.txt, val.txt and test.txt, by whatever name people give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.mask_names import read_lines
from trainables.data.mask_pairs import Pair
from trainables.data.masks import MASK_SUFFIXES
from trainables.data.reading import IMAGE_SUFFIXES
from trainables.data.split_names import resembled_split, split_of
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted

TRAINVAL = "trainval"
EVERYTHING = ("default", "all")  # as CVAT and Datumaro call the list of images without a split
LIKE_A_SPLIT = re.compile(r"\s*[a-z]+[\s_-]*\d+$", re.IGNORECASE)  # test1 and val_2019, but not test_results


@dataclass(frozen=True)
class Lists:
    """The lists of a data set. files: split -> list. The split '' names all images and leaves the split to be drawn."""

    files: dict[str, Path]
    notes: tuple[str, ...] = ()


def find_lists(spec: str, folder: Path, *, everything: bool = False, need_train: bool = True) -> Lists | None:
    """Return the lists in a folder, or None if it has none.

    With `everything`, default.txt names all images. trainval.txt replaces a missing train.txt, less what val.txt names.
    Raises DataError if two files are for one split, train is missing, or a name only begins like a split's.
    """
    # Find the lists that are named like splits.
    texts = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".txt") if folder.is_dir() else []
    files: dict[str, Path] = {}
    for file in texts:
        split = split_of(file.stem)
        if split in files:
            raise DataError(f"'{spec}' has '{files[split].name}' and '{file.name}' for one split. Keep one of them.")
        if split is not None:
            files[split] = file
    # Replace a missing train.txt, or all lists, by those of a known other name.
    spare = {file.stem.lower(): file for file in texts if file not in files.values()}
    if "train" not in files and TRAINVAL in spare and (files or everything):
        files["train"] = spare[TRAINVAL]
    if not files:
        names = [name for name in EVERYTHING if everything and name in spare]
        return (
            Lists({"": spare[names[0]]}, (f"'{spare[names[0]].name}' names no split: it is drawn.",)) if names else None
        )
    if "train" not in files and need_train:
        present = quoted([file.name for file in files.values()])
        raise DataError(f"'{spec}' has {present}, but no train.txt. Add it: the images to train on, one stem a line.")
    # Refuse lists whose names only resemble those of a missing split.
    unknown = [file for name, file in spare.items() if name != TRAINVAL and resembled_split(name)]
    doubtful = [
        file.name for file in unknown if resembled_split(file.stem) not in files and LIKE_A_SPLIT.match(file.stem)
    ]
    if doubtful:
        present = quoted([file.name for file in files.values()])
        raise DataError(
            f"'{spec}' has {present}, and {quoted(doubtful)} with a name that is no split's. "
            "Rename it to val.txt or test.txt, or so that it begins otherwise."
        )
    # Note assumptions.
    renamed = [
        f"'{file.name}' is taken as {split}" for split, file in files.items() if file.stem not in (split, TRAINVAL)
    ]
    notes = [f"{', '.join(renamed)}."] if renamed else []
    if unknown:
        notes.append(f"Lists that are not used: {quoted([file.name for file in unknown])}.")
    return Lists(files, tuple(notes))


def listed(
    spec: str, lists: Lists, pairs: Sequence[Pair], images: str, on_bad_image: str
) -> tuple[list[Pair], list[str]]:
    """The pairs that the lists name, each on its side, and notes about what is left out."""
    pair_of = {pair.stem: pair for pair in pairs}
    side_of: dict[str, tuple[str, str]] = {}  # stem -> (split, file)
    unknown: list[str] = []
    # Train last: of a trainval.txt it gets what val.txt has left.
    for split in ("val", "test", "train", ""):
        file = lists.files.get(split)
        for number, line in enumerate(read_lines(spec, file) if file is not None else [], 1):
            if file is None or not line.strip():
                continue
            stem = _stem_listed(line.strip(), images, pair_of)
            if stem is None and on_bad_image == "error":
                raise DataError(
                    f"{spec}: {file.name}, line {number}, lists '{line.strip()}', but there is no image "
                    f"'{images}/{_without_suffix(line.strip(), IMAGE_SUFFIXES)}.*'. "
                    "Fix the line, or pass --on-bad-image skip."
                )
            if stem is None:
                unknown.append(line.strip())
                continue
            other, where = side_of.setdefault(stem, (split, file.name))
            if other != split and file.stem.lower() != TRAINVAL:
                raise DataError(
                    f"{spec}: '{stem}' stands in {where} and in {file.name}, line {number}. "
                    "An image is on one side only: remove one of the lines."
                )
    notes = list(lists.notes)
    if unknown:
        notes.append(f"{counted(len(unknown), 'listed name')} left out, without an image: {quoted(unknown)}.")
    unlisted = [pair.image for pair in pairs if pair.mask and pair.stem not in side_of]
    if unlisted:
        notes.append(
            f"{counted(len(unlisted), 'image')} with a mask left out, as no list names it: {quoted(unlisted)}."
        )
    return [pair.on(side_of[pair.stem][0]) for pair in pairs if pair.stem in side_of], notes


def _stem_listed(line: str, images: str, pair_of: dict[str, Pair]) -> str | None:
    """Return the stem that a line names, by the stem, a file name, or a path from the data's root."""
    for name in (line, line.removeprefix(f"{images}/"), line.removeprefix("./")):
        for stem in (name, _without_suffix(name, (*IMAGE_SUFFIXES, *MASK_SUFFIXES))):
            if stem in pair_of:
                return stem
    return None


def _without_suffix(name: str, suffixes: tuple[str, ...]) -> str:
    return name.rpartition(".")[0] if name.lower().endswith(suffixes) else name
