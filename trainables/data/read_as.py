"""How to read a user's data where it is ambiguous. Each field is a command line option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from visionsweep.core.errors import DataError
from visionsweep.core.names import did_you_mean

ON_BAD_IMAGE = ("error", "skip")
LAYOUTS = ("classes", "splits", "groups")
MASK_VALUES = ("classes",)


@dataclass(frozen=True)
class ReadAs:
    """How to read data that could mean several things.

        on_bad_image     error, or skip: leave out with a note what is unreadable, missing or without a mask
        layout           classes: the folders are the classes, whatever they are called. splits: they are train, val and
                         test, and others are left out. groups: each holds the same class folders. None: as they look
        mask_values      classes: every value that the masks hold is a class of its own. None: values are class numbers
        label_separator  what separates the tags in a column `labels`. None: '|'
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

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ReadAs:
        """Read the options that search.json keeps. Runs of an older version have fewer."""
        return cls(**{name: options[name] for name in cls.__dataclass_fields__ if name in options})

    def options(self) -> dict[str, Any]:
        """Return the fields as keyword arguments of `load_dataset`."""
        return asdict(self)
