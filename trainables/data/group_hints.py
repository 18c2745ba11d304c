"""A note that asks for --group, where the names of images look like groups or a file of groups is not used."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from trainables.data.group_cells import GROUPS_FILE, stem_of
from trainables.data.scan import Scan
from visionsweep.core.words import counted, quoted

# Patterns by what a group's images have in common: patient12_slice3 and tile001-exp3, Ann_Lee_0004, chase-01L. With
# how many groups there must be for each class: names without a number are more often parts of a collection.
PATTERNS = {r"(.*?\d+)[-_. ].+": 2, r"(.+)[-_. ]\d+": 3, r"(.*\d)[A-Za-z]": 2}
LEAST_SHARE = 1 / 3  # of the images that must have another one in their group


def group_notes(scan: Scan, path: Path) -> list[str]:
    """Return a note that asks whether images belong together, or nothing.

    A split that the data gives is only questioned where it separates what looks like a group. path: where it lies.
    """
    root = path if path.is_dir() else path.parent
    drawn = "val" not in scan.given
    if drawn and (root / GROUPS_FILE).is_file():
        return [
            f"'{GROUPS_FILE}' lies beside the data and is not used: --group {GROUPS_FILE} keeps its groups together."
        ]
    stems = [stem_of(name) for name in scan.names]
    for pattern, fewest in PATTERNS.items():
        compiled = re.compile(pattern)
        found = [match.group(1) if (match := compiled.fullmatch(stem)) else "" for stem in stems]
        _, first, of_image, counts = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
        named = np.array([bool(one) for one in found])
        several = (counts > 1)[of_image] & named
        number = int(((counts > 1) & named[first]).sum())
        if several.mean() < LEAST_SHARE or number < fewest * len(scan.classes):
            continue
        if not drawn and not _torn(scan, of_image, several):
            return []
        one = int(np.flatnonzero(several)[0])
        alike = [scan.names[image] for image in np.flatnonzero(of_image == of_image[one])[:2]]
        return [
            f"Names look like {counted(number, 'group')}, such as {quoted(alike)}. If these belong together (of one "
            f"patient, object or recording), pass --group '{pattern}': else they may stand on two sides of the split, "
            "and scores look better than they are."
        ]
    return []


def _torn(scan: Scan, of_image: np.ndarray, several: np.ndarray) -> bool:
    """Whether a group of several images has some to train on, and some to judge by."""
    train = of_image[several & np.isin(scan.given, ("", "train"))]
    judged = of_image[several & np.isin(scan.given, ("val", "test"))]
    return len(np.intersect1d(train, judged)) > 0
