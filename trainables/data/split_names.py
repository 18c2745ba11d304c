"""What people call the parts of a data set: one table for folders, lists and the column `split`."""

from __future__ import annotations

import re

SPLIT_NAMES = {
    "train": (
        "train", "training", "train_set", "training_set", "trainset", "train_data", "training_data", "train_images",
        "training_images", "seg_train", "trn",
    ),
    "val": (
        "val", "valid", "validation", "validate", "dev", "val_set", "valid_set", "validation_set", "dev_set", "valset",
        "val_data", "valid_data", "validation_data", "val_images", "validation_images", "seg_val", "eval", "evaluation",
    ),
    "test": (
        "test", "testing", "test_set", "testing_set", "testset", "test_data", "testing_data", "test_images",
        "testing_images", "seg_test", "holdout", "hold_out",
    ),
}  # fmt: skip
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_BEGINS = re.compile(r"(train|val|test)")


def split_of(name: str) -> str | None:
    """train, val or test where `name` is one of their names in any case, with blanks or hyphens for '_'; else None."""
    return _SPLIT_OF.get(_plain(name))


def looks_like_a_split(name: str) -> bool:
    """Whether a name that is none begins like one: 'test1', 'train_2019'."""
    return split_of(name) is None and _BEGINS.match(_plain(name)) is not None


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())
