"""What a tool's files say, image by image, and the images that they name."""

from __future__ import annotations

import contextlib
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainables.data.reading import IMAGE_SUFFIXES
from trainables.data.split_names import resembled_split, split_of
from trainables.data.tools.shapes import Shape, check_class
from trainables.data.walk import Walk
from visionsweep.core.errors import DataError
from visionsweep.core.files import short
from visionsweep.core.safe_path import name_problem, shown
from visionsweep.core.words import below, under


@dataclass(frozen=True)
class Annotated:
    """An image with its annotations.

    image   relative to the data's root
    file    where they stand, relative to the root
    shapes  from the lowest to the one on top
    labels  of the whole image
    split   train, val, test or ''
    size    (height, width) as the tool says, (0, 0) where it does not
    """

    image: str
    file: str
    shapes: tuple[Shape, ...] = ()
    labels: tuple[str, ...] = ()
    split: str = ""
    size: tuple[int, int] = (0, 0)


@dataclass
class Gathered:
    """The images of a data folder that a tool has annotated, as they are read.

    spec           the data folder, for messages
    skip           whether images with wrong annotations are left out, or stop
    tool           the tool's name, for messages
    classes        in the tool's order, empty where it has none
    box_is_area    whether a box was drawn as an area, as in labelme. In COCO it only surrounds one
    several_labels whether the format gives an image any number of labels, even where each has one
    every_labelled whether an image without annotations shows nothing of them. Else nobody has looked at it
    """

    spec: str
    root: Path
    skip: bool
    tool: str = ""
    classes: tuple[str, ...] = ()
    box_is_area: bool = True
    several_labels: bool = False
    every_labelled: bool = False
    images: list[Annotated] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    first_bad: str = ""
    left_out: Counter[str] = field(default_factory=Counter)  # shapes without an area, by their kind
    unlabelled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.walk = Walk(self.root, [self.root])
        self.on_disk = self.walk.files(self.root, IMAGE_SUFFIXES)
        self._known = set(self.on_disk)
        self._by_base: dict[str, list[str]] = {}
        for name in self.on_disk:
            self._by_base.setdefault(name.rpartition("/")[2], []).append(name)
        self._place_of: dict[str, str] = {}
        self.by_name_alone: list[str] = []

    def called(self, file: Path) -> str:
        """Return a file's name relative to the root."""
        return file.relative_to(self.root).as_posix()

    def error(self, where: str, problem: str, move: str = "Export it anew.") -> DataError:
        return DataError(f"{below(self.spec, where)}: {problem}. {move}")

    @contextlib.contextmanager
    def image_at(self, where: str) -> Iterator[None]:
        """Leave out the image that is read within if its annotations are wrong and may be skipped.

        where: the file and the place in it. Raises DataError otherwise.
        """
        try:
            yield
        except DataError as error:
            if not self.skip:
                raise self.error(
                    where, str(error), "Correct it, or pass --on-bad-image skip to leave out such images."
                ) from None
            self.bad.append(where)
            self.first_bad = self.first_bad or f"{where}: {error}"

    def add(self, one: Annotated, where: str) -> None:
        """Add an image. Raises DataError if it was annotated elsewhere too, or a class has no usable name."""
        for label in {*one.labels, *(shape.label for shape in one.shapes)}:
            check_class(label)
        if one.image in self._place_of:
            raise DataError(f"image '{one.image}' has annotations in {self._place_of[one.image]} too")
        self._place_of[one.image] = where
        self.images.append(one)

    def is_added(self, image: str) -> bool:
        return image in self._place_of

    def find(self, said: object, folder: str, split: str = "") -> str:
        """Return the image below the root that a tool's file calls `said`.

        It is looked for in `folder` and in the images beside it, then by its name alone, as tools keep paths of other
        machines. Nothing outside of the root is ever opened. Raises DataError if there is none, or several.
        """
        if not isinstance(said, str) or not said.strip("/\\ "):
            raise DataError(f"the image's name must be text, got {short(said)}")
        name = said.replace("\\", "/")
        for place in (folder, under(folder, "images"), "images"):
            beside = posixpath.normpath(under(place, name))
            if beside in self._known and name_problem(beside) is None:
                return beside
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        found = self._by_base.get(parts[-1], []) if parts else []
        found = _closest(found, parts)
        if len(found) > 1:  # of one name in several folders: of the same split, then below the same folder
            found = [one for one in found if split and split == split_in(f"{one.rpartition('/')[0]}/")] or found
            found = [one for one in found if folder and one.startswith(f"{folder}/")] or found
        if len(found) == 1:
            self.by_name_alone.append(found[0])
            return found[0]
        if found:
            raise DataError(f"image {shown(said)} may be '{found[0]}' or '{found[1]}'")
        why = name_problem(name)
        more = f", {why.removeprefix('which ')}" if why else ""
        raise DataError(f"image {shown(said)} does not exist in the data folder{more}")


def _closest(names: list[str], parts: list[str]) -> list[str]:
    """Return those that share the most folders with `parts`, counted from the file's name on."""

    def shared(name: str) -> int:
        own = name.split("/")
        count = 0
        while count < min(len(own), len(parts)) and own[-1 - count] == parts[-1 - count]:
            count += 1
        return count

    most = max(map(shared, names), default=0)
    return [name for name in names if shared(name) == most]


def split_in(name: str) -> str:
    """Return the split that a path's folders or its file's words name, '' for none: 'instances_val2017' is val."""
    *folders, file = name.split("/")
    parts = [*folders, file.rpartition(".")[0] or file]
    return next((split for split in map(_split_of, reversed(parts)) if split), "")


def _split_of(part: str) -> str:
    return split_of(part) or resembled_split(part) or ""
