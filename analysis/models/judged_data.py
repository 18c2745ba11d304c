"""Labelled data as an exported model sees it: the model's classes, and the split that the model was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.models.predictor import ExportedModel
from trainables.data.dataset import UNJUDGED, VOID, Dataset
from trainables.data.judged_part import as_it_was
from trainables.data.merge import merge_classes
from trainables.targets import output_classes
from visionsweep.core.errors import DataError
from visionsweep.core.tasks import task_kind
from visionsweep.core.words import quoted

SPLITS = ("test", "val", "train", "all")
MOST_NAMES = 5


def with_model_classes(dataset: Dataset, model: ExportedModel, described: Mapping[str, Any]) -> Dataset:
    """Return the data with its labels as numbers of the model's classes, matched by name. It may lack some of them.

    `described` is what the model was trained on, as `Dataset.describe` gave it, where that is known. Raises DataError
    if the data has classes that the model does not know.
    """
    classes = _learnt(model, described) or dataset.classes
    place = {name: number for number, name in enumerate(classes)}
    if task_kind(dataset.task).pixels:
        # Where the model merged the classes of its data, masks may already have the merged ones.
        merged = merge_classes(classes, model.config.merge)
        for number, name in enumerate(merged.classes):
            place.setdefault(name, int(np.flatnonzero(merged.table == number)[0]))
    unknown = [name for name in dataset.classes if name not in place]
    if unknown or output_classes(model.config, classes) != model.classes:
        raise DataError(_other_classes(dataset, model, unknown))
    if classes == dataset.classes:
        return dataset
    numbers = np.array([place[name] for name in dataset.classes], dtype=np.int64)
    if task_kind(dataset.task).one_label:
        return replace(dataset, classes=classes, targets=numbers[dataset.targets])
    targets = np.zeros((len(dataset.targets), len(classes)), dataset.targets.dtype)
    for column, number in enumerate(numbers):
        targets[:, number] += dataset.targets[:, column]
    if not task_kind(dataset.task).pixels:
        return replace(dataset, classes=classes, targets=targets)
    of_values = np.full(256, VOID, np.uint8)
    of_values[: len(numbers)] = numbers
    return replace(dataset, classes=classes, targets=targets, numbers=of_values)


def as_described(dataset: Dataset, described: Mapping[str, Any]) -> Dataset:
    """Return the data with the split that the model was trained and chosen on, whatever its split is now."""
    if "val" not in described:
        return dataset
    val = set(described["val"])
    test = set(described.get("test", ()))
    was = [
        "val" if name in val else "test" if name in test else now if now in ("skipped", "duplicate") else "train"
        for name, now in zip(dataset.names, dataset.split.tolist(), strict=True)
    ]
    split = np.array(was)
    return replace(dataset, split=as_it_was(split, described[UNJUDGED]) if UNJUDGED in described else split)


def one_split(dataset: Dataset, split: str) -> Dataset:
    """Return the data with `split` to judge. `all` becomes a split of its own, of every readable image.

    Raises DataError if the split is empty, or its masks are void throughout.
    """
    if split == "all":
        dataset = replace(dataset, split=np.where(dataset.split == "skipped", "skipped", "all"))
    if not len(dataset.indices(split)):
        having = [name for name in SPLITS[:3] if len(dataset.indices(name))]
        raise DataError(f"'{dataset.spec}' has no split '{split}'. Name one of {', '.join([*having, 'all'])}.")
    if task_kind(dataset.task).pixels and not dataset.targets[dataset.indices(split)].any():
        raise DataError(
            f"'{dataset.spec}': every pixel of the {split} masks is void, so there is nothing to judge. "
            "Correct what classes.txt or the palette calls void, or name another --split."
        )
    return dataset


def _learnt(model: ExportedModel, described: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the classes that the model was trained on, before any merge, or None where unknown."""
    if not task_kind(model.config.task).pixels or not model.config.merge:
        return model.classes
    return tuple(described["classes"]) if "classes" in described else None


def _other_classes(dataset: Dataset, model: ExportedModel, unknown: Sequence[str]) -> str:
    missing = [name for name in model.classes if name not in dataset.classes]
    differ = [
        *([f"the model knows no {quoted(unknown, MOST_NAMES)}"] if unknown else []),
        *([f"the data has no {quoted(missing, MOST_NAMES)}"] if missing else []),
    ] or [f"the data has {quoted(dataset.classes, MOST_NAMES)}, the model {quoted(model.classes, MOST_NAMES)}"]
    return (
        f"'{dataset.spec}': its classes are not the model's: {'; '.join(differ)}. Name data with the model's classes."
    )
