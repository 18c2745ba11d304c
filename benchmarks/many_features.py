"""Features of the labelled sets of photos for benchmarks of many cheap trials, and ridge heads on them.

A ridge head is solved in closed form, for all strengths at once, so that hundreds of trials take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.minutes_sets import Example, Labelled, sets_below

SEEN = ((0, 64), (0, 96))  # EfficientNet-Lite, px

Floats = NDArray[np.float64]


def labelled_sets(root: Path, names: Sequence[str]) -> dict[str, Labelled]:
    """Return the sets with classes or tags below `root`/many by name, all of them if no names are given.

    Raises SystemExit for a name that is not there.
    """
    there: dict[str, Callable[[], Labelled]] = {
        name: load for name, load in sets_below(root).items() if (root / "many" / name / "split.csv").is_file()
    }
    for name in names:
        if name not in there:
            raise SystemExit(f"--sets: no set '{name}' with labels below {root}/many. Known: {', '.join(there)}.")
    return {name: there[name]() for name in names or there}


def features_of_set(
    data: Labelled, seen: Sequence[tuple[int, int]] = SEEN, keep: Path | None = None
) -> list[tuple[Floats, Floats]]:
    """Return (training rows, test rows) of each backbone and size. keep: a folder of what was computed before."""
    return [_features(data, number, px, keep) for number, px in seen]


def _features(data: Labelled, number: int, px: int, keep: Path | None) -> tuple[Floats, Floats]:
    file = None if keep is None else keep / f"{data.name}-lite{number}-{px}.npz"
    if file is not None and file.is_file():
        with np.load(file) as stored:
            return stored["train"].astype(float), stored["test"].astype(float)
    from benchmarks.minutes_hands import BACKBONES, backbone_of, features_of, read_photos

    backbone = backbone_of(BACKBONES[number])

    def of(examples: Sequence[Example]) -> Floats:
        return features_of(backbone, read_photos(examples, px))

    train, test = of(data.train), of(data.test)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, train=train.astype(np.float32), test=test.astype(np.float32))
    return train, test


def one_hot(data: Labelled, examples: Sequence[Example]) -> Floats:
    """Return targets (N, C) of 0 and 1."""
    targets = data.targets(examples)
    return targets.astype(float) if targets.ndim == 2 else np.eye(len(data.classes))[targets]


def ridge(train: Floats, targets: Floats, others: Floats, strengths: Sequence[float]) -> Floats:
    """Return the scores (S, n, C) of other rows by ridge heads of S strengths.

    train, others  (N, F) and (n, F), scaled by the deviation of all training features together
    targets        (N, C)
    strengths      of the mean squared error, relative to the mean row's squared length
    """
    mean = train.mean(axis=0)
    rows = train - mean
    scale = np.sqrt((rows**2).sum(axis=1).mean())
    rows = rows / scale
    values, vectors = np.linalg.eigh(rows @ rows.T)
    answers = vectors.T @ (targets - targets.mean(axis=0))
    towards = ((others - mean) / scale) @ rows.T @ vectors  # (n, N)
    num = len(train)
    solved = [(answers / (values.clip(0) + num * one)[:, None]) for one in strengths]
    return np.stack([towards @ one + targets.mean(axis=0) for one in solved])
