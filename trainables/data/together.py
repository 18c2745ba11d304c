"""Which images stand on one side of a split together: exact copies, and what the user groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from trainables.data.scan import Scan
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted

SIDES = ("train", "val", "test")
SHOWN = 3  # images of a group that is separated


def copies(digests: Sequence[str]) -> np.ndarray:
    """Return the set of exact copies of each image, (N,) int64. Images with equal contents share one."""
    number: dict[str, int] = {}
    return np.array([number.setdefault(digest, len(number)) for digest in digests], dtype=np.int64)


def joined(first: np.ndarray, *others: np.ndarray | None) -> np.ndarray:
    """Return (N,) int64 sets that hold together what any of several partitions (N,) holds together."""
    pairs = list[tuple[int, int]]()
    for partition in (first, *(other for other in others if other is not None)):
        _, leader, of_image = np.unique(partition, return_index=True, return_inverse=True)
        led = np.flatnonzero(leader[of_image] != np.arange(len(first)))
        pairs += zip(leader[of_image[led]].tolist(), led.tolist(), strict=True)
    return linked(len(first), pairs)


def linked(num_images: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return (N,) int64 the sets that pairs of images link, directly or through others. Each is named by its first."""
    parent = list(range(num_images))

    def root(image: int) -> int:
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    for pair in pairs:
        one, other = sorted(map(root, pair))
        parent[other] = one
    return np.array([root(image) for image in range(num_images)], dtype=np.int64)


def check_groups(scan: Scan, sets: np.ndarray, pool: np.ndarray, num_sides: int) -> None:
    """Raise DataError if the pool, (n,) positions that are drawn from, has fewer groups than sides, or a class has one.

    sets: (N,) what stays together. Rare tags, and classes of masks, may stand in one group.
    """
    if scan.groups is None:
        return
    number = len(np.unique(sets[pool]))
    if number < num_sides:
        raise DataError(
            f"--group by {scan.grouped_by} puts {counted(len(pool), 'image')} into {counted(number, 'group')}, and a "
            f"group stays on one side: {num_sides} sides need as many groups at least. Group by something finer, or "
            "leave out --group."
        )
    if not scan.one_label:
        return
    for index, name in enumerate(scan.classes):
        images = pool[scan.targets[pool] == index]
        if len(images) and len(np.unique(sets[images])) < 2:
            raise DataError(
                f"class '{name}' stands in one group only (by {scan.grouped_by}: {quoted(_names(scan, images), SHOWN)})"
                ", and a group stays on one side. A class needs two groups at least. Add images, remove the class, or "
                "leave out --group."
            )


def _names(scan: Scan, images: np.ndarray) -> list[str]:
    return [scan.names[image] for image in images]


def separated(scan: Scan, split: np.ndarray) -> list[str]:
    """Return a note for each two sides of a given split between which groups are torn apart."""
    if scan.groups is None:
        return []
    notes = []
    number = len(np.unique(scan.groups[np.isin(split, SIDES)]))
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        torn = np.intersect1d(scan.groups[split == first], scan.groups[split == second])
        if not len(torn):
            continue
        images = np.flatnonzero(np.isin(scan.groups, torn) & np.isin(split, (first, second)))
        same = _names(scan, images[scan.groups[images] == torn[0]])
        notes.append(
            f"{counted(len(torn), 'group')} of {number:,} {'stands' if len(torn) == 1 else 'stand'} in {first} and in "
            f"{second} ({counted(len(images), 'image')}), such as {quoted(same, SHOWN)}: scores on {second} will look "
            "better than on new groups. Move each group to one side, or give no split and let it be drawn."
        )
    return notes


def grouping(scan: Scan, split: np.ndarray) -> str:
    """Return what the groups are, for the line that says what was found, '' where nothing is said of them."""
    if scan.groups is None:
        return ""
    used = np.isin(split, SIDES)
    groups = scan.groups[used]
    number = len(np.unique(groups))
    num_places = len(set(zip(groups.tolist(), split[used].tolist(), strict=True)))
    ending = "each on one side" if num_places == number else "some on two sides"
    return f"{counted(number, 'group')} by {scan.grouped_by}, {ending}"
