"""Out-of-fold predictions: of each image of train and val by the model that has not seen its fold.

An .npz holds, a row for each image, fold by fold:

    names            file names relative to the data's root, as in search.json
    fold             from 1
    targets          class index, or 0/1 of each label; none for masks
    logits           (N, K) float32
    masks, shapes    for segmentation instead: see `evaluate.Evaluation`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trainables.data.dataset import Dataset
from trainables.data.folds import of_fold
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_npz
from visionsweep.core.tasks import task_kind
from visionsweep.core.writing import write_whole

PREDICTED = ("logits", "masks", "shapes")  # those of a split's predictions that are kept


def write_out_of_fold(path: Path, dataset: Dataset, predictions: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Write the predictions of all folds. predictions: those of each fold's validation images, fold 1 first."""
    rows = [of_fold(dataset, fold).indices("val") for fold in range(1, len(predictions) + 1)]
    positions = np.concatenate(rows)
    arrays = {
        "names": np.array([dataset.names[row] for row in positions]),
        "fold": np.repeat(np.arange(1, len(rows) + 1), [len(part) for part in rows]),
        **({} if task_kind(dataset.task).pixels else {"targets": dataset.targets[positions]}),
        **{name: np.concatenate([part[name] for part in predictions]) for name in PREDICTED if name in predictions[0]},
    }

    def save(scratch: Path) -> None:
        with scratch.open("wb") as file:  # given a name, numpy would append .npz to it
            np.savez_compressed(file, **arrays)

    write_whole(path, save)


def out_of_fold_logits(path: Path, dataset: Dataset) -> np.ndarray | None:
    """Return (n, K) logits of the data's training images, in their order, each by a model that has not seen it.

    The result is None if there is no such file, or it is of other data. Raises RunError for a damaged one.
    """
    if not path.is_file():
        return None
    stored = read_npz(path)
    if "logits" not in stored or "names" not in stored or len(stored["names"]) != len(stored["logits"]):
        raise RunError(f"{path}: is damaged (it has no logits with their names). Delete it.")
    row_of = {name: row for row, name in enumerate(stored["names"].tolist())}
    names = [dataset.names[index] for index in dataset.indices("train")]
    if not all(name in row_of for name in names):
        return None
    found: np.ndarray = stored["logits"][[row_of[name] for name in names]]
    return found
