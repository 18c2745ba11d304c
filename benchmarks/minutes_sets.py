"""The data of `minutes.py`: sets with a test part that no search sees, laid out as a user would."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from trainables.data.mask_names import is_void
from trainables.data.reading import IMAGE_SUFFIXES
from trainables.data.stratify import stratified_val_multilabel

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
VAL_FOLDS = 5  # one of them is the search's validation split: a fifth of the training rows
VAL_BLOCKS = 3  # of neighbouring names in a list of masks: slices and frames that belong together stay together
NUM_FLOWERS = 2000
VOID = 255  # in masks: pixels that are neither learnt nor judged
# What a hand that looks at the photos sees: mirrored, these are other letters and other signs.
NO_MIRROR = ("handwriting", "traffic-signs")


@dataclass(frozen=True)
class Example:
    """A photo with its tags (one if it has a class), or the file of its mask.

    group: examples of one group are never on both sides of a split. It is the photo's own path if nothing is known.
    """

    image: Path
    tags: tuple[str, ...] = ()
    mask: Path | None = None
    group: str = ""


@dataclass(frozen=True)
class Labelled:
    """A set of photos: methods may use `train` as they like, and are judged on `test`.

    task       multiclass (two classes included), multilabel or segmentation
    classes    of the training rows, or of the masks, without void
    codes      the class number behind every value in the masks, VOID for none
    given_val  how many of the last training rows the set itself validates on, 0 if they are drawn
    """

    name: str
    task: str
    classes: tuple[str, ...]
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    codes: tuple[int, ...] = ()
    given_val: int = 0

    @property
    def may_mirror(self) -> bool:
        return self.name not in NO_MIRROR

    def targets(self, examples: Sequence[Example]) -> np.ndarray:
        """Return class numbers (N,) int64, or (N, K) uint8 of a multilabel set.

        A tag without training rows is left out.
        """
        number = {name: i for i, name in enumerate(self.classes)}
        if self.task == "multiclass":
            return np.array([number[one.tags[0]] for one in examples], np.int64)
        found = np.zeros((len(examples), len(self.classes)), np.uint8)
        for row, one in enumerate(examples):
            found[row, [number[tag] for tag in one.tags if tag in number]] = 1
        return found

    def groups(self) -> np.ndarray | None:
        """Return the groups of the training rows, (N,) str, or None if the set has no groups."""
        return np.array([one.group for one in self.train]) if any(one.group for one in self.train) else None


def sets_below(root: Path) -> dict[str, Callable[[], Labelled]]:
    """Return every set that is there by name, photos first: those of many/ and the four folders of their own."""
    found: dict[str, Callable[[], Labelled]] = {}
    many = sorted(path for path in root.glob("many/*") if path.is_dir())
    found |= {path.name: partial(from_table, path) for path in many if (path / "split.csv").is_file()}
    if (root / "hymenoptera").is_dir():
        found["hymenoptera"] = partial(from_split_folders, root / "hymenoptera")
    if (root / "flowers5").is_dir():
        found["flowers5"] = partial(from_class_folders, root / "flowers5", NUM_FLOWERS)
    if (root / "ccp").is_dir():
        found["clothing-tags"] = partial(from_columns, root / "ccp", "clothing-tags")
    found |= {path.name: partial(from_lists, path) for path in many if (path / "masks").is_dir()}
    if (root / "camvid").is_dir():
        found["camvid"] = partial(from_camvid, root / "camvid")
    if (root / "ccp").is_dir():
        found["clothing-masks"] = partial(from_lists, root / "ccp", "clothing-masks", test="val")
    return found


def from_table(folder: Path) -> Labelled:
    """A folder with split.csv (image, label or labels, split) and maybe groups.csv (image, group)."""
    rows = _rows(folder / "split.csv")
    groups = {row["image"]: row["group"] for row in _rows(folder / "groups.csv")}
    several = "labels" in rows[0]
    sides: dict[str, list[Example]] = {"train": [], "test": []}
    for row in rows:
        tags = tuple(tag for tag in row["labels"].split("|") if tag) if several else (row["label"],)
        sides[row["split"]].append(Example(folder / row["image"], tags, group=groups.get(row["image"], "")))
    return _photos(folder.name, "multilabel" if several else "multiclass", sides["train"], sides["test"])


def from_split_folders(folder: Path) -> Labelled:
    """Read train/CLASS/*.jpg, and val/CLASS/*.jpg to judge on."""
    train, test = (_in_class_folders(folder / side) for side in ("train", "val"))
    return _photos(folder.name, "multiclass", train, test)


def from_class_folders(folder: Path, num: int) -> Labelled:
    """Take `num` photos of CLASS/*.jpg, the same share of each class, evenly spaced. Every fourth is a test row."""
    photos = _in_class_folders(folder)
    kept: list[Example] = []
    for name in sorted({one.tags for one in photos}):
        own = [one for one in photos if one.tags == name]
        take = min(round(num * len(own) / len(photos)), len(own))
        kept += [own[number * len(own) // take] for number in range(take)]
    is_test = np.arange(len(kept)) % 4 == 3
    train, test = ([one for one, there in zip(kept, is_test == side, strict=True) if there] for side in (False, True))
    return _photos(folder.name, "multiclass", train, test)


def from_columns(folder: Path, name: str) -> Labelled:
    """Read labels.csv with a 0/1 column for each tag and `split`, whose val is judged on."""
    sides: dict[str, list[Example]] = {"train": [], "val": []}
    for row in _rows(folder / "labels.csv"):
        tags = tuple(tag for tag, value in row.items() if tag not in ("image", "split") and value == "1")
        sides[row["split"]].append(Example(folder / row["image"], tags))
    return _photos(name, "multilabel", sides["train"], sides["val"])


def from_lists(folder: Path, name: str = "", test: str = "test") -> Labelled:
    """Read images/ and masks/, with train.txt and another list of stems.

    classes.txt names the values in the masks.
    """
    images = {path.stem: path for path in (folder / "images").iterdir()}
    learnt, judged = (
        tuple(Example(images[stem], mask=folder / "masks" / f"{stem}.png") for stem in _lines(folder / f"{side}.txt"))
        for side in ("train", test)
    )
    return _masks(name or folder.name, folder, learnt, judged)


def from_camvid(folder: Path) -> Labelled:
    """Read train, val and test beside trainannot, valannot and testannot. The search validates on that val."""
    train, val, test = (
        tuple(
            Example(image, mask=folder / f"{side}annot" / f"{image.stem}.png")
            for image in sorted((folder / side).iterdir())
        )
        for side in ("train", "val", "test")
    )
    return _masks(folder.name, folder, train + val, test, given_val=len(val))


def lay_out(data: Labelled, folder: Path, seed: int) -> Path:
    """Write a folder of links to the training rows alone, a fifth of them marked as val, for `--data`.

    `seed` draws the fifth: as many of each class, and whole groups if the set has groups. With masks it is blocks of
    neighbouring names.
    """
    in_val = validation(data, seed)
    names = [f"{number:05d}{one.image.suffix}" for number, one in enumerate(data.train)]
    (folder / "images").mkdir(parents=True)
    for name, one in zip(names, data.train, strict=True):
        (folder / "images" / name).symlink_to(one.image.resolve())
    if data.task != "segmentation":
        column = "label" if data.task == "multiclass" else "labels"
        with (folder / "labels.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image", column, "split"])
            for name, one, held_out in zip(names, data.train, in_val, strict=True):
                table.writerow([f"images/{name}", "|".join(one.tags), "val" if held_out else "train"])
        return folder
    (folder / "masks").mkdir()
    for name, one in zip(names, data.train, strict=True):
        assert one.mask is not None
        (folder / "masks" / f"{Path(name).stem}.png").symlink_to(one.mask.resolve())
    for side, wanted in (("train", False), ("val", True)):
        listed = [Path(name).stem for name, held_out in zip(names, in_val, strict=True) if held_out == wanted]
        (folder / f"{side}.txt").write_text("\n".join(listed) + "\n")
    values = [data.classes[code] if code != VOID else "void" for code in data.codes]
    (folder / "classes.txt").write_text("\n".join(values) + "\n")
    return folder


def validation(data: Labelled, seed: int) -> np.ndarray:
    """Return which training rows a search validates on, (N,) bool."""
    num = len(data.train)
    if data.given_val:
        return np.asarray(np.arange(num) >= num - data.given_val)
    if data.task == "segmentation":
        blocks = np.arange(num) * VAL_FOLDS * VAL_BLOCKS // num  # (N,) numbers of blocks of neighbours
        return np.asarray(blocks % VAL_FOLDS == seed % VAL_FOLDS)
    targets = data.targets(data.train)
    groups = data.groups()
    if data.task == "multilabel":
        return stratified_val_multilabel(targets, 1 / VAL_FOLDS, seed)
    in_val = np.zeros(num, bool)
    in_val[folds(targets, groups, VAL_FOLDS, seed)[0][1]] = True
    return in_val


def folds(targets: np.ndarray, groups: np.ndarray | None, num: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, val) row numbers of each fold, stratified by class, and in whole groups if they are known."""
    by = targets if targets.ndim == 1 else np.array([int(row.argmax()) for row in targets])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer photos than folds: they are missing from some
        if groups is not None:
            return list(StratifiedGroupKFold(num, shuffle=True, random_state=seed).split(by, by, groups))
        return list(StratifiedKFold(num, shuffle=True, random_state=seed).split(by, by))


def _photos(name: str, task: str, train: Sequence[Example], test: Sequence[Example]) -> Labelled:
    classes = sorted({tag for one in train for tag in one.tags})
    return Labelled(name, task, tuple(classes), tuple(train), tuple(test))


def _masks(
    name: str, folder: Path, train: tuple[Example, ...], test: tuple[Example, ...], given_val: int = 0
) -> Labelled:
    values = _lines(folder / "classes.txt")
    classes = tuple(value for value in values if not is_void(value))
    codes = tuple(VOID if is_void(value) else classes.index(value) for value in values)
    return Labelled(name, "segmentation", classes, train, test, codes, given_val)


def _in_class_folders(folder: Path) -> list[Example]:
    photos = [path for path in sorted(folder.glob("*/*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    return [Example(path, (path.parent.name,)) for path in photos]


def _rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a table, empty if there is no such file."""
    if not file.is_file():
        return []
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def _lines(file: Path) -> list[str]:
    return file.read_text().removesuffix("\n").split("\n")
