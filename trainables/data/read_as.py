"""How to read a user's data where it is ambiguous. Each field is a command line option."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from visionsweep.core.errors import DataError
from visionsweep.core.names import did_you_mean

ON_BAD_IMAGE = ("error", "skip")
LAYOUTS = ("classes", "splits", "groups")
MASK_VALUES = ("classes",)
FEWEST_FOLDS = 2
AUTO = "auto"
MOST_CHANNELS = 13  # a satellite's: Sentinel-2 has as many
MOST_TEST = 0.5  # of the images, that --test may keep back


@dataclass(frozen=True)
class ReadAs:
    """How to read data that could mean several things.

        on_bad_image     error, or skip: leave out with a note what is unreadable, missing or without a mask
        layout           classes: the folders are the classes, whatever they are called. splits: they are train, val and
                         test, and others are left out. groups: each holds the same class folders. None: as they look
        mask_values      classes: every value that the masks hold is a class of its own. None: values are class numbers
        label_separator  what separates the tags in a column `labels`. None: '|'
        group            what belongs together: a column of the table, a file .csv, or a pattern on names (`groups.py`)
        test             share that is kept back as a test split, such as '15%'. None: the data's own test split, if any
        folds            number of folds that train and val are divided into, None: one split (`folds.py`)
        channels         how many channels each file has, or auto: they are trained on as they are, at their own depth
                         (`bands.py`). None: everything becomes RGB of 8 bits
        alike            not an option: the sets of near duplicates, by name, that a run found when it began. None: they
                         are looked for (`near.py`)
        for_training     not an option: False where the data is only judged. Then nothing is split, and a class may have
                         one image, or none
        val_images       not an option: by how many validation images a search judges (`judged_part.py`). None: by all
        on_demand        not an option: whether a search decodes its images at each access (`on_demand.py`)

    Raises DataError for values that are none of these.
    """

    on_bad_image: str = "error"
    layout: str | None = None
    mask_values: str | None = None
    label_separator: str | None = None
    for_training: bool = True
    val_images: int | None = None
    on_demand: bool = False
    group: str | None = None
    test: str | None = None
    channels: str | None = None
    alike: Sequence[Sequence[str]] | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--on-bad-image", self.on_bad_image, ON_BAD_IMAGE),
            ("--layout", self.layout, LAYOUTS),
            ("--mask-values", self.mask_values, MASK_VALUES),
        ):
            if value is not None and value not in known:
                raise DataError(f"unknown {option} '{value}'. {did_you_mean(value, known)}")
        if self.label_separator == "":
            raise DataError("--label-separator is empty. Name what stands between two tags, such as ','.")
        if self.group is not None:
            check_group(self.group)
        share_of(self.test)
        check_folds(self.folds)
        check_channels(self.channels)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ReadAs:
        """Read the options that search.json keeps. Runs of an older version have fewer, and kept no near duplicates."""
        options = {"alike": (), **options}
        return cls(**{name: options[name] for name in cls.__dataclass_fields__ if name in options})

    @property
    def test_fraction(self) -> float | None:
        """The share of the images that is kept back, or None."""
        return share_of(self.test)

    def options(self) -> dict[str, Any]:
        """Return the fields as keyword arguments of `load_dataset`."""
        return asdict(self)


def check_folds(num_folds: int | None) -> None:
    """Raise DataError for fewer than two folds."""
    if num_folds is not None and num_folds < FEWEST_FOLDS:
        raise DataError(f"--folds takes {FEWEST_FOLDS} or more, got {num_folds}. 5 is usual.")


def is_group_file(group: str) -> bool:
    """Whether --group names a file."""
    return group.lower().endswith(".csv")


def check_group(group: str) -> None:
    """Raise DataError for a --group that is empty or a pattern that cannot be read."""
    if not group:
        raise DataError("--group is empty. Name a column of the table, a file groups.csv, or a pattern on names.")
    if "(" in group and not is_group_file(group):
        try:
            re.compile(group)
        except re.error as error:
            raise DataError(
                rf"--group '{group}' is not a pattern: {error}. Write a regular expression, such as '(.*)_\d+'."
            ) from None


def check_channels(channels: str | None) -> None:
    """Raise DataError for a `--channels` that is no number of channels and not 'auto'."""
    if channels is None or channels == AUTO:
        return
    if not channels.isdecimal() or not 1 <= int(channels) <= MOST_CHANNELS:
        raise DataError(f"--channels takes 1 to {MOST_CHANNELS}, or auto for what the files have, got '{channels}'.")


def share_of(test: str | float | None) -> float | None:
    """Return the share that --test says, '15%' or 0.15. Raises DataError if it is not between 0 and 50%."""
    if test is None:
        return None
    text = str(test).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= MOST_TEST:
        hint = f" Did you mean {text}%?" if 1 <= share <= 100 * MOST_TEST else ""
        raise DataError(
            f"--test takes the share of the images that is kept back, above 0 and at most {MOST_TEST:.0%}, "
            f"got '{test}'.{hint} 15% is usual."
        )
    return share
