"""Kept predictions of a trial: confusions, per-class scores, and the worst mistakes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.ranking import log_odds
from visionsweep.core.errors import RunError
from visionsweep.core.names import CLASS_IOU
from visionsweep.core.tasks import task_kind
from visionsweep.run_dir.files import (
    PREDICTIONS,
    out_of_fold_file,
    predictions_file,
    read_predictions,
)
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import is_number
from visionsweep.run_dir.trials import Trial

THRESHOLD = 0.5  # for a configuration that has none


@dataclass(frozen=True, eq=False)
class Judged:
    """The predictions of a trial's best kept epoch for the validation images.

    trial, epoch   whose predictions they are
    classes        C names
    names          N files
    probabilities  (N, C), for binary tasks of both classes
    truth          (N, C) bool, the classes of each image
    decided        (N, C) bool, the classes that the trial predicts
    ranked         (N, C), what ranks the images of a class; None takes the probabilities
    """

    trial: Trial
    epoch: int
    classes: tuple[str, ...]
    names: tuple[str, ...]
    probabilities: NDArray[np.float64]
    truth: NDArray[np.bool_]
    decided: NDArray[np.bool_]
    ranked: NDArray[np.float64] | None = None


def kept_predictions(
    run: Run, trial: Trial, only: Collection[str] | None = None
) -> tuple[int, dict[str, NDArray[Any]]]:
    """Return (epoch, arrays) of the trial's best epoch with kept predictions.

    only: names of arrays, None means all. Raises RunError if there is no such epoch, or it lacks one of them.
    """
    values = trial.values(run.metric)
    for epoch in sorted(values, key=lambda epoch: (-run.sign * values[epoch], epoch)):
        path = predictions_file(run.run_dir, trial.trial_id, epoch)
        if path.is_file():
            return epoch, read_predictions(path, "Train the trial again for its predictions.", only=only)
    raise RunError(
        f"the predictions of trial {trial.trial_id} are not in {run.run_dir / PREDICTIONS}. "
        "A search keeps those of its best trials (`--keep-trials`)."
    )


def judged(run: Run, trial: Trial, targets: Sequence[Any] | None = None) -> Judged:
    """Return a classifier's predictions beside the truth.

    `targets` are those of the validation images, in the form of `val_targets` in search.json. None takes them from
    there. Runs of before 0.5 do not have them. Raises RunError if predictions or targets are missing.
    """
    epoch, arrays = kept_predictions(run, trial)
    return judged_by(run, trial, epoch, arrays.get("logits"), judged_images(run, targets))


def judged_on_folds(run: Run, trial: Trial) -> Judged | None:
    """Return a classifier's predictions of all images of train and val, each by a model that has not seen it.

    The result is None for a trial that did not complete its folds, or does not keep them. Raises RunError if they are
    damaged.
    """
    path = out_of_fold_file(run.run_dir, trial.trial_id)
    if not path.is_file():
        return None
    arrays = read_predictions(path, "Train the trial again for its predictions.")
    if "targets" not in arrays or "names" not in arrays:
        return None
    labels = arrays["targets"]
    targets = labels.tolist() if labels.ndim == 1 else [np.flatnonzero(row).tolist() for row in labels]
    best = trial.best(run.metric, run.mode)
    images = _with_truth(run, targets, tuple(map(str, arrays["names"].tolist())))
    return judged_by(run, trial, 0 if best is None else best[1], arrays.get("logits"), images)


@dataclass(frozen=True, eq=False)
class JudgedImages:
    """The validation images of a run: C classes, N files, truth (N, C)."""

    classes: tuple[str, ...]
    names: tuple[str, ...]
    truth: NDArray[np.bool_]


def judged_images(run: Run, targets: Sequence[Any] | None = None) -> JudgedImages:
    """Return the validation images with their classes, as `judged` finds them."""
    data = run.search.get("data", {})
    targets = data.get("val_targets") if targets is None else targets
    names = tuple(map(str, data.get("val", ())))
    if targets is None:
        raise RunError("which classes the validation images have is not in search.json, and the data is not at hand.")
    return _with_truth(run, targets, names)


def _with_truth(run: Run, targets: Sequence[Any], names: tuple[str, ...]) -> JudgedImages:
    classes = tuple(map(str, run.search.get("data", {}).get("classes", ())))
    if len(targets) != len(names):
        raise RunError("search.json does not name the class of each validation image.")
    truth = np.zeros((len(names), len(classes)), bool)
    for row, target in enumerate(targets):
        listed = target if isinstance(target, list) else [target]  # a class, or a list of classes
        if not all(0 <= one < len(classes) for one in listed):
            raise RunError("search.json has a label of a class that it does not name.")
        truth[row, listed] = True
    return JudgedImages(classes, names, truth)


def judged_by(run: Run, trial: Trial, epoch: int, logits: NDArray[Any] | None, images: JudgedImages) -> Judged:
    """Return logits (N, K) of a trial beside the truth. Raises RunError if they are not of these images."""
    names = images.names
    task = run.task
    if logits is None or len(logits) != len(names):
        raise RunError(f"the predictions of trial {trial.trial_id} are not of the images that search.json names.")
    width = 1 if task_kind(task).one_output else len(images.classes)
    if logits.dtype.kind != "f" or logits.shape != (len(names), width):
        raise RunError(f"the predictions of trial {trial.trial_id} are not of the classes that search.json names.")
    probabilities = probabilities_of(task, logits)
    threshold = trial.config.get("threshold", THRESHOLD)
    threshold = float(threshold) if is_number(threshold) else THRESHOLD
    decided = decisions(task, probabilities, threshold)
    ranked = log_odds(logits.astype(np.float64), task)
    return Judged(trial, epoch, images.classes, names, probabilities, images.truth, decided, ranked)


def probabilities_of(task: str, logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities (N, C) of logits (N, K), for binary tasks of both classes."""
    logits = logits.astype(np.float64)
    if task_kind(task).softmax:
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
    probabilities = 1 / (1 + np.exp(-logits.clip(-500, 500)))
    if task_kind(task).one_output:
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    return np.asarray(probabilities)


def decisions(task: str, probabilities: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Return (N, C) bool, the classes that are predicted."""
    if task_kind(task).tags:
        return np.asarray(probabilities > threshold)
    is_second = probabilities[:, -1] > threshold
    chosen = is_second.astype(int) if task_kind(task).one_output else probabilities.argmax(axis=1)
    return np.asarray(np.eye(probabilities.shape[1], dtype=bool)[chosen])


def confusion(one: Judged) -> NDArray[np.int64]:
    """Return counts (C, C), rows truth and columns prediction, for a task with one class per image."""
    matrix = np.zeros((len(one.classes), len(one.classes)), np.int64)
    np.add.at(matrix, (one.truth.argmax(axis=1), one.decided.argmax(axis=1)), 1)
    return matrix


def class_scores(one: Judged) -> pd.DataFrame:
    """Return a row for each class: class, precision, recall, f1, num_images. Undefined values are None."""
    hits = (one.truth & one.decided).sum(axis=0)
    predicted = one.decided.sum(axis=0)
    have = one.truth.sum(axis=0)
    rows = [
        {
            "class": name,
            "precision": float(hits[i] / predicted[i]) if predicted[i] else None,
            "recall": float(hits[i] / have[i]) if have[i] else None,
            "f1": float(2 * hits[i] / (predicted[i] + have[i])) if predicted[i] + have[i] else None,
            "num_images": int(have[i]),
        }
        for i, name in enumerate(one.classes)
    ]
    return pd.DataFrame(rows, columns=["class", "precision", "recall", "f1", "num_images"])


def class_iou(run: Run, trial: Trial) -> pd.DataFrame:
    """Return class and iou at a segmentation trial's best epoch, the best first, from the metrics alone."""
    best = trial.best(run.metric, run.mode)
    metrics: dict[str, float] = next((row["metrics"] for row in trial.epochs if best and row["epoch"] == best[1]), {})
    found = [(name.removeprefix(CLASS_IOU), value) for name, value in metrics.items() if name.startswith(CLASS_IOU)]
    found.sort(key=lambda pair: pair[1], reverse=True)
    return pd.DataFrame(found, columns=["class", "iou"])


@dataclass(frozen=True)
class Mistake:
    """One image with a wrong prediction: its position among the validation images, and both in words."""

    position: int
    name: str
    truth: str
    said: str
    loss: float


def most_wrong(one: Judged, count: int = 24) -> list[Mistake]:
    """Return the wrongly predicted images with the largest losses.

    The loss is the cross-entropy of the truth, summed over the classes where an image can have several.
    """
    tiny = 1e-12
    if one.truth.sum(axis=1).tolist() == [1] * len(one.names) and one.decided.sum(axis=1).max(initial=0) <= 1:
        losses = -np.log(np.maximum(one.probabilities[one.truth], tiny))
    else:
        agreed = np.where(one.truth, one.probabilities, 1 - one.probabilities)
        losses = -np.log(np.maximum(agreed, tiny)).sum(axis=1)
    wrong = np.flatnonzero((one.truth != one.decided).any(axis=1))
    order = wrong[np.argsort(-losses[wrong], kind="stable")][:count]
    return [_mistake(one, int(row), float(losses[row])) for row in order]


def _mistake(one: Judged, row: int, loss: float) -> Mistake:
    def words(which: NDArray[np.bool_], *, sure: bool) -> str:
        picked = np.flatnonzero(which).tolist()
        listed = [f"{one.classes[i]} {one.probabilities[row, i]:.2f}" if sure else one.classes[i] for i in picked]
        return ", ".join(listed) or "none"

    missed = one.truth[row] & ~one.decided[row]
    invented = one.decided[row] & ~one.truth[row]
    if one.truth[row].sum() == 1 and one.decided[row].sum() == 1:
        return Mistake(row, one.names[row], words(one.truth[row], sure=False), words(one.decided[row], sure=True), loss)
    parts = [f"missed {words(missed, sure=True)}"] if missed.any() else []
    parts += [f"wrongly {words(invented, sure=True)}"] if invented.any() else []
    return Mistake(row, one.names[row], words(one.truth[row], sure=False), "; ".join(parts), loss)
