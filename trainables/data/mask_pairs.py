"""Images and masks with the same stem, and the lists that say which of them are used for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from search_spaces.errors import DataError
from trainables.data.mask_classes import read_lines
from trainables.data.masks import MASK_SUFFIXES
from trainables.data.reading import IMAGE_SUFFIXES, is_turned
from trainables.data.walk import files_below, images_below
from trainables.data.words import counted, quoted


@dataclass(frozen=True)
class Pair:
    """An image and its mask ('' where it has none), relative to the data's root; `stem` is what they share."""

    stem: str
    image: str
    mask: str
    split: str = ""

    def on(self, split: str) -> Pair:
        return replace(self, split=split)


def paired(spec: str, root: Path, images: str, masks: str) -> tuple[list[Pair], list[str]]:
    """The images below one folder with their masks below the other, sorted; and the masks that have no image."""
    mask_of = _by_stem(spec, files_below(root, root / masks, MASK_SUFFIXES), masks)
    image_of = _by_stem(spec, images_below(root, root / images), images)
    pairs = [Pair(stem, image, mask_of.get(stem, "")) for stem, image in image_of.items()]
    return pairs, [mask for stem, mask in mask_of.items() if stem not in image_of]


def listed(spec: str, folder: Path, pairs: list[Pair], images: str, on_bad_image: str) -> tuple[list[Pair], list[str]]:
    """The pairs that train.txt, val.txt and test.txt name, each on its side, and notes about what is left out.

    trainval.txt stands in for a train.txt that is missing; what val.txt names is not in it.
    """
    lists = {split: folder / f"{split}.txt" for split in ("train", "val", "test")}
    if not lists["train"].is_file() and (folder / "trainval.txt").is_file():
        lists["train"] = folder / "trainval.txt"
    if not lists["train"].is_file():
        present = quoted([file.name for file in lists.values() if file.is_file()])
        raise DataError(f"'{spec}' has {present}, but no train.txt. Add it: the images to train on, one stem a line.")
    pair_of = {pair.stem: pair for pair in pairs}
    side_of: dict[str, tuple[str, str]] = {}  # stem -> (split, file)
    unknown: list[str] = []
    # Train last: of a trainval.txt it gets what val.txt has left.
    for split in ("val", "test", "train"):
        file = lists[split]
        for number, line in enumerate(read_lines(spec, file) if file.is_file() else [], 1):
            if not line.strip():
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
            if other != split and file.name != "trainval.txt":
                raise DataError(
                    f"{spec}: '{stem}' stands in {where} and in {file.name}, line {number}. "
                    "An image is on one side only: remove one of the lines."
                )
    notes = []
    if unknown:
        notes.append(f"{counted(len(unknown), 'listed name')} left out, without an image: {quoted(unknown)}.")
    unlisted = [pair.image for pair in pairs if pair.mask and pair.stem not in side_of]
    if unlisted:
        notes.append(
            f"{counted(len(unlisted), 'image')} with a mask left out, as no list names it: {quoted(unlisted)}."
        )
    return [pair.on(side_of[pair.stem][0]) for pair in pairs if pair.stem in side_of], notes


def turned_notes(root: Path, turned: Sequence[Pair]) -> list[str]:
    """A note where images that their EXIF orientation turns have masks without one: turned by half, or mirrored, they
    fit each other in size whichever way the masks were drawn."""
    lone = [pair.image for pair in turned if not is_turned(root / pair.mask)]
    if not lone:
        return []
    return [
        f"{counted(len(lone), 'image')} turned by the EXIF orientation, with masks that are not: {quoted(lone)}. Check "
        "that those masks were drawn on the images as viewers show them."
    ]


def _by_stem(spec: str, names: Sequence[str], folder: str) -> dict[str, str]:
    """Stem relative to the folder -> name; a DataError where two files share one."""
    found: dict[str, str] = {}
    for name in names:
        stem = name.removeprefix(f"{folder}/").rpartition(".")[0]
        if stem in found:
            raise DataError(
                f"{spec}: '{found[stem]}' and '{name}' have the same stem, and images and masks are matched by it. "
                "Rename or remove one."
            )
        found[stem] = name
    return found


def _stem_listed(line: str, images: str, pair_of: dict[str, Pair]) -> str | None:
    """The stem that a line means: it may be a stem, a file name, or a path from the data's root."""
    for name in (line, line.removeprefix(f"{images}/"), line.removeprefix("./")):
        for stem in (name, _without_suffix(name, (*IMAGE_SUFFIXES, *MASK_SUFFIXES))):
            if stem in pair_of:
                return stem
    return None


def _without_suffix(name: str, suffixes: tuple[str, ...]) -> str:
    return name.rpartition(".")[0] if name.lower().endswith(suffixes) else name
