"""The part of a validation split that a search judges by, if all of it would exceed the budget.

The part is drawn once, by class, for all trials, so their scores are comparable. The rest is `unjudged`: no trial
trains on it, but a refit on train and val does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainables.data.cache_build import Source, inspect
from trainables.data.dataset import UNJUDGED, Dataset, unpacked
from trainables.data.stratify import stratified_draw
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted


def with_judged_part(dataset: Dataset, most: int | None, seed: int) -> Dataset:
    """Return the data with at most `most` validation images and the others `unjudged`. None keeps all of them.

    With data decoded on demand, these are decoded once now: every trial is judged by them. Raises DataError if one
    cannot be read, unless bad images are skipped.
    """
    val = dataset.indices("val")
    if most is not None and len(val) > most:
        split = dataset.split.copy()
        split[val] = UNJUDGED
        split[val[stratified_draw(dataset.targets[val], most, seed)]] = "val"
        dataset = replace(dataset, split=split)
    return readable(dataset, "val")


def as_it_was(split: np.ndarray, text: str) -> np.ndarray:
    """Return the split, (N,) str, with the unjudged images that `Dataset.describe` recorded.

    Raises DataError if the text is damaged.
    """
    try:
        return np.where(unpacked(text, len(split)), UNJUDGED, split)
    except ValueError as error:
        raise DataError(f"data.json: '{UNJUDGED}' is damaged: {error}. Export the trial anew.") from None


def readable(dataset: Dataset, side: str) -> Dataset:
    """Return data decoded on demand without the unreadable images of one side, other data unchanged.

    Raises DataError if one cannot be read and bad images are not skipped.
    """
    if dataset.on_demand is None:
        return dataset
    rows = dataset.indices(side)
    names = [dataset.names[index] for index in rows]
    bad, _ = inspect(Source(names, lambda row: dataset.reader(int(rows[row]))))
    if not bad:
        return dataset
    if dataset.on_demand == "error":
        more = f" ({len(bad) - 1} more like it)" if len(bad) > 1 else ""
        raise DataError(
            f"{dataset.spec}: {next(iter(bad.values()))}{more}. Replace or remove it, or pass --on-bad-image skip to "
            "leave out what is unreadable."
        )
    split = dataset.split.copy()
    split[rows[list(bad)]] = "skipped"
    skipped = [names[row] for row in bad]
    note = f"{counted(len(skipped), 'image')} of {side} skipped as unreadable: {quoted(skipped)}."
    return replace(dataset, split=split, notes=(*dataset.notes, note))
