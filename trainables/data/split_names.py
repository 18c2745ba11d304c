"""The names that people give the parts of a data set, in one table for folders, lists and the column `split`."""

from __future__ import annotations

import re

SPLIT_NAMES = {
    "train": (
        "train", "training", "train_set", "training_set", "trainset", "train_data", "training_data", "train_images",
        "training_images", "seg_train", "trn", "trainingset", "train_split", "train_dataset", "training_dataset",
        "traindata", "train_dir", "images_train", "data_train",
    ),
    "val": (
        "val", "valid", "validation", "validate", "dev", "val_set", "valid_set", "validation_set", "dev_set", "valset",
        "val_data", "valid_data", "validation_data", "val_images", "validation_images", "seg_val", "eval", "evaluation",
        "validset", "validationset", "val_split", "val_dataset", "validation_dataset", "valdata", "val_dir",
        "valid_images", "seg_valid", "images_val", "data_val",
    ),
    "test": (
        "test", "testing", "test_set", "testing_set", "testset", "test_data", "testing_data", "test_images",
        "testing_images", "seg_test", "holdout", "hold_out", "testingset", "test_split", "test_dataset",
        "testing_dataset", "testdata", "test_dir", "images_test", "data_test",
    ),
}  # fmt: skip
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_ANY = "|".join(sorted(_SPLIT_OF, key=len, reverse=True))
# 'test1', 'train_2019', 'trainA' and 'cats_train', but neither 'valley' nor 'trainer'.
_BEGINS = re.compile(rf"({_ANY})(?:_?\d.*|_.*|(?-i:[A-Z]))", re.IGNORECASE)
_ENDS = re.compile(rf".+_({_ANY})(?:_?\d+)?", re.IGNORECASE)


def split_of(name: str) -> str | None:
    """Return train, val or test if `name` is one of their names, else None.

    Case does not matter, and blanks and hyphens count as '_'.
    """
    return _SPLIT_OF.get(_plain(name).lower())


def looks_like_a_split(name: str) -> bool:
    """Whether a name that is none begins or ends like one: 'test1', 'train_2019', 'cats_train'."""
    return resembled_split(name) is not None


def resembled_split(name: str) -> str | None:
    """Return the split that a name resembles without being one of its names (train for 'train_2019'), else None."""
    found = _BEGINS.fullmatch(_plain(name)) or _ENDS.fullmatch(_plain(name))
    return _SPLIT_OF[found[1].lower()] if found and split_of(name) is None else None


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip())
