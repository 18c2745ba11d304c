"""What data is for, labels or masks, known from its names alone: nothing is read or decoded."""

from __future__ import annotations

import os
from pathlib import Path

from trainables.data.folders import has_class_folders
from trainables.data.mask_folders import find_layout
from trainables.data.there import OF_TORCHVISION, require_there
from trainables.data.unpacked import TABLE_NAME, enter
from visionsweep.core.errors import DataError
from visionsweep.core.s3 import is_remote


def has_masks(spec: str, layout: str | None = None) -> bool:
    """Return whether a search of this data is one for masks, as `formats.load_dataset` decides without a task.

    layout: see `ReadAs`. Raises DataError if there is no such data, or if it is on S3, where that is not looked up.
    """
    if is_remote(spec):
        raise DataError(f"'{spec}' is on S3, where labels and masks are not told apart. Name the search or the task.")
    require_there(spec)
    if spec.startswith(OF_TORCHVISION):
        from trainables.data.torchvision_sets import MASKED_SETS, NAMED_SETS

        name = spec.removeprefix(OF_TORCHVISION)
        return name in MASKED_SETS and name not in NAMED_SETS
    path = Path(spec).expanduser()
    if not path.is_dir():  # a table has labels, and so have the digits but for one
        return spec == "digits:segmentation"
    inner_spec, inner, _ = enter(spec, path, layout)
    if os.path.lexists(inner / TABLE_NAME):
        return False
    found = None if layout == "classes" else find_layout(inner_spec, inner)
    return found is not None and (found.in_splits or not has_class_folders(inner))
