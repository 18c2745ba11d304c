"""Match masks to images by their stem, or by the stem without a word that all names share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.data.masks import MASK_SUFFIXES
from trainables.data.reading import is_turned
from trainables.data.walk import files_below, images_below
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted

MASK_ENDING = "_mask"  # for masks among the images, as Roboflow writes them
# A word at an end of a name, such as '_mask' or 'img_'. The rest of the name identifies the file.
TAIL = re.compile(r"(?<=.)[\W_]+[^\W\d_][^\W_]*$")
HEAD = re.compile(r"^(?:.*/)?([^\W\d_]+[\W_]+)(?=.)")
FOLDER = re.compile(r"^[^/]+/")


@dataclass(frozen=True)
class Pair:
    """An image and its mask ('' if it has none), relative to the data's root. `stem` is the image's."""

    stem: str
    image: str
    mask: str
    split: str = ""

    def on(self, split: str) -> Pair:
        return replace(self, split=split)


@dataclass(frozen=True)
class Pairs:
    """The pairs of a data set.

    lone_masks: masks without an image. notes: how masks were matched, if not by equal stems.
    """

    pairs: list[Pair]
    lone_masks: list[str]
    notes: tuple[str, ...] = ()


def paired(spec: str, root: Path, images: str, masks: str) -> Pairs:
    """Pair the images below one folder with their masks below the other, sorted.

    In one folder, masks end in '_mask'. If no stem is shared, the word that all masks, or all images, have at an end of
    their names is ignored.
    """
    mask_names = files_below(root, root / masks, MASK_SUFFIXES)
    image_names = images_below(root, root / images)
    if images == masks:
        mask_names = [name for name in mask_names if _stem(name, masks).lower().endswith(MASK_ENDING)]
        image_names = [name for name in image_names if name not in set(mask_names)]
    mask_of = _by_stem(spec, mask_names, masks)
    image_of = _by_stem(spec, image_names, images)
    key_of = {stem: stem for stem in image_of}
    notes: tuple[str, ...] = ()
    if images == masks:
        mask_of = {stem[: -len(MASK_ENDING)]: mask for stem, mask in mask_of.items()}
    if not mask_of.keys() & image_of.keys():
        masks_by_key = _plain_names(mask_of)
        images_by_key = _plain_names(image_of)
        both = sorted(masks_by_key.keys() & images_by_key.keys())
        if both:
            mask_of = {key: mask_of[stem] for key, stem in masks_by_key.items()}
            key_of = {stem: key for key, stem in images_by_key.items()}
            notes = (
                f"No mask has the stem of an image. They are matched without the words that all names share: "
                f"'{image_of[images_by_key[both[0]]]}' has '{mask_of[both[0]]}'.",
            )
    pairs = [Pair(stem, image, mask_of.get(key_of[stem], "")) for stem, image in image_of.items()]
    used = set(key_of.values())
    return Pairs(pairs, [mask for key, mask in mask_of.items() if key not in used], notes)


def turned_notes(root: Path, turned: Sequence[Pair]) -> list[str]:
    """Return a note about images that their EXIF orientation turns while their masks have none.

    Turned by half, or mirrored, they fit their masks in size, whichever way the masks were drawn.
    """
    lone = [pair.image for pair in turned if not is_turned(root / pair.mask)]
    if not lone:
        return []
    return [
        f"{counted(len(lone), 'image')} turned by the EXIF orientation, with masks that are not: {quoted(lone)}. Check "
        "that those masks were drawn on the images as viewers show them."
    ]


def _stem(name: str, folder: str) -> str:
    return name.removeprefix(f"{folder}/" if folder else "").rpartition(".")[0]


def _by_stem(spec: str, names: Sequence[str], folder: str) -> dict[str, str]:
    """Map stems relative to the folder to names. Raises DataError if two files share one."""
    found: dict[str, str] = {}
    for name in names:
        stem = _stem(name, folder)
        if stem in found:
            raise DataError(
                f"{spec}: '{found[stem]}' and '{name}' have the same stem, and images and masks are matched by it. "
                "Rename or remove one."
            )
        found[stem] = name
    return found


def _plain_names(stems: Iterable[str]) -> dict[str, str]:
    """Stem without the words that all of them share at their ends -> stem. Empty where that makes two of them equal."""
    plain = {stem: stem for stem in stems}
    for pattern, group in ((FOLDER, 0), (TAIL, 0), (HEAD, 1)):
        while True:
            matches = {stem: pattern.search(name) for stem, name in plain.items()}
            words = {match.group(group) if match else "" for match in matches.values()}
            if len(words) != 1 or words == {""}:
                break
            plain = {
                stem: plain[stem][: match.start(group)] + plain[stem][match.end(group) :]
                for stem, match in matches.items()
                if match is not None
            }
    by_name = {name: stem for stem, name in plain.items()}
    return by_name if len(by_name) == len(plain) else {}
