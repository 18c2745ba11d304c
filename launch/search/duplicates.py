"""The near duplicates of a data set, listed by `visionsweep check --duplicates`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.data.bands import BandReader
from trainables.data.dataset import Dataset
from trainables.data.near import named, near_sets
from trainables.data.reading import FileReader
from trainables.data.scan import content_digests
from visionsweep.core.tasks import task_kind
from visionsweep.core.words import counted


def duplicates(dataset: Dataset, cache_dir: Path | None) -> list[str]:
    """Return lines that list the near duplicates of all images, however many there are. Exact copies are named so.

    Images are shown with their class where those of a set differ, and with their side of the split.
    """
    reader = dataset.reader.as_rgb if isinstance(dataset.reader, BandReader) else dataset.reader
    if not isinstance(reader, FileReader):
        return [f"near duplicates: not looked for, as '{dataset.spec}' is not made of files"]
    near = near_sets(dataset.names, reader, dataset.fingerprint, cache_dir, most=sys.maxsize)
    sets = named(dataset.names, near)
    if not sets:
        return [f"near duplicates: none among {counted(len(dataset.names), 'image')}"]
    place = {name: number for number, name in enumerate(dataset.names)}
    return [
        f"near duplicates: {counted(sum(map(len, sets)), 'image')} in {counted(len(sets), 'set')}",
        *(_line(dataset, reader, names, [place[name] for name in names]) for names in sets),
    ]


def _line(dataset: Dataset, reader: FileReader, names: Sequence[str], places: Sequence[int]) -> str:
    exact = len(set(content_digests([reader.root / name for name in names]))) == 1
    labels = [_label(dataset, place) for place in places]
    differ = len(set(labels)) > 1
    listed = [
        f"{name} ({', '.join([*([label] if differ else []), str(dataset.split[place]) or 'unused'])})"
        for name, label, place in zip(names, labels, places, strict=True)
    ]
    return f"    {'exact: ' if exact else ''}{'  '.join(listed)}{'  DIFFERENT LABELS' if differ else ''}"


def _label(dataset: Dataset, place: int) -> str:
    """Return an image's class or tags. Masks are not compared."""
    if task_kind(dataset.task).pixels:
        return ""
    target = dataset.targets[place]
    if task_kind(dataset.task).one_label:
        return dataset.classes[int(target)]
    return "|".join(dataset.classes[index] for index in np.flatnonzero(target))
