"""The near duplicates of a data set: found once per machine, kept together by a drawn split, or taken from a run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data.cache import Place
from trainables.data.dataset import Reader
from trainables.data.looks import LOOK_SIZE, MOST_IMAGES, alike, looks_of
from trainables.data.reading import FileReader
from trainables.data.scan import Scan
from trainables.data.together import joined
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_npz
from visionsweep.core.words import counted, quoted
from visionsweep.core.writing import write_whole

LISTED = "`visionsweep check SEARCH --data DIR --duplicates` lists them."
SHOWN = 3  # images of a note
FEWEST_SETS = 3  # of a class, one for each side


def near_sets(
    names: Sequence[str],
    reader: Reader,
    fingerprint: str,
    cache_dir: Path | None,
    given: Sequence[Sequence[str]] | None = None,
    most: int = MOST_IMAGES,
) -> npt.NDArray[np.int64] | None:
    """Return the sets of near duplicates, (N,) int64, or None if there are none.

    names        of N images
    reader       of files: other data is not looked at
    fingerprint  of the data
    cache_dir    keeps what every image looks like, None: nowhere
    given        the sets of a run, by name. None: they are looked for
    most         images of a data set that is looked at: more would take long
    """
    num_images = len(names)
    if given is not None:
        position = {name: number for number, name in enumerate(names)}
        found = np.arange(num_images)
        for one in given:
            places = [position[name] for name in one if name in position]
            found[places] = min(places, default=0)
    elif isinstance(reader, FileReader) and num_images <= most:
        found = alike(_kept_looks(reader, fingerprint, cache_dir))
    else:
        return None
    return found if len(np.unique(found)) < num_images else None


def named(names: Sequence[str], near: np.ndarray | None) -> tuple[tuple[str, ...], ...]:
    """Return the sets of two images or more, by name."""
    if near is None:
        return ()
    order = np.argsort(near, kind="stable")
    starts = np.flatnonzero(np.diff(near[order])) + 1
    return tuple(tuple(names[image] for image in part) for part in np.split(order, starts) if len(part) > 1)


def with_near(scan: Scan, sets: np.ndarray, near: np.ndarray | None, pool: np.ndarray) -> np.ndarray:
    """Return what stays together, (N,) int64, with near duplicates too, but for classes that these would hold whole.

    sets  what has to stay together
    pool  (n,) the images that are drawn from
    """
    if near is None:
        return sets
    if scan.one_label:
        near = near.copy()
        for index in range(len(scan.classes)):
            images = pool[scan.targets[pool] == index]
            if len(np.unique(near[images])) < FEWEST_SETS <= len(np.unique(sets[images])):
                near[images] = len(near) + images
    both = joined(sets, near)
    return both if len(np.unique(both[pool])) >= FEWEST_SETS else sets


def near_notes(scan: Scan, split: np.ndarray, near: np.ndarray | None, copies: np.ndarray, drawn: bool) -> list[str]:
    """Return notes on the near duplicates that are no exact copies.

    copies: (N,) sets of exact copies. drawn: whether the split was drawn, and so keeps them together.
    """
    if near is None:
        return []
    used = np.isin(split, ("train", "val", "test"))
    # Of exact copies the first one counts.
    places = np.flatnonzero(used)
    places = places[np.unique(copies[places], return_index=True)[1]]
    _, of_image, counts = np.unique(near[places], return_inverse=True, return_counts=True)
    several = places[(counts > 1)[of_image]]
    if not len(several):
        return []
    notes = []
    if drawn:
        sets = counted(len(np.unique(near[several])), "set")
        one = quoted([scan.names[image] for image in several[near[several] == near[several[0]]]], SHOWN)
        notes.append(f"{counted(len(several), 'image')} in {sets} of near duplicates, such as {one}. {LISTED}")
    for judged in ("val", "test"):
        seen = several[(split[several] == judged) & np.isin(near[several], near[split == "train"])]
        if len(seen):
            has = "has" if len(seen) == 1 else "have"
            notes.append(
                f"{counted(len(seen), 'image')} of {judged} {has} a near duplicate in train, such as "
                f"{quoted([scan.names[image] for image in seen], SHOWN)}: scores on {judged} will look better than on "
                f"new images.{'' if drawn else ' ' + LISTED}"
            )
    return notes


def _kept_looks(reader: FileReader, fingerprint: str, cache_dir: Path | None) -> npt.NDArray[np.float32]:
    """Return the looks of all images, from the cache if they are there."""
    if cache_dir is None:
        return looks_of(reader)
    path = Place(cache_dir.absolute(), fingerprint).folder("looks.npz")
    with contextlib.suppress(RunError):  # not there, or damaged: it is written anew
        kept = read_npz(path).get("looks")
        if kept is not None and kept.shape == (len(reader.names), LOOK_SIZE) and kept.dtype == np.float32:
            return kept
    looks = looks_of(reader)
    with contextlib.suppress(OSError):  # a cache that is read-only or full: looked at again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda scratch: _save(scratch, looks))
    return looks


def _save(path: Path, looks: npt.NDArray[np.float32]) -> None:
    with open(path, "wb") as file:  # by its name np.savez would add an ending
        np.savez(file, looks=looks)
