"""Evaluation of an export on a split of a data set: the search's metrics (`trainables.evaluate`), with intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.models.bootstrap import Intervals, confusion_of, estimates, label_intervals, label_scores, mask_intervals
from analysis.models.judged_data import SPLITS, as_described, one_split, with_model_classes
from analysis.models.predictor import ExportedEnsemble, ExportedModel, load_export
from trainables.config.trial import TrialConfig
from trainables.data.augment import cached_short_side, eval_transform
from trainables.data.band_statistics import channels_of, check_bands
from trainables.data.cache import keep_views
from trainables.data.formats import load_dataset
from trainables.data.judged_part import readable
from trainables.data.loader import Labels, TrialData
from trainables.data.merge import Merge
from trainables.data.read_as import ReadAs
from trainables.data.view import View
from trainables.evaluate import evaluate
from trainables.pixel_scores import scores_of
from trainables.targets import classes_and_labels
from trainables.tasks import mean_logits, score
from visionsweep.core.errors import ConfigError, RunError
from visionsweep.core.files import read_object, short
from visionsweep.core.names import did_you_mean
from visionsweep.core.tasks import task_kind
from visionsweep.core.words import quoted
from visionsweep.run_dir.shapes import search_problems

READ_AS = ReadAs()
MOST_DECODING_S = 30.0  # for decoding all images; if it would take longer, only the judged ones are decoded
NO_INTERVALS = Intervals({}, {})
CHOSEN_BY = {
    "train": "The model was trained on these images: the scores say nothing about new ones.",
    "val": "The model was chosen by its scores on these images: expect somewhat less on new ones.",
    "test": "The model was neither trained on these images nor chosen by them.",
    "all": "Among these images are those that the model was trained on and chosen by.",
}


@dataclass(frozen=True)
class Judged:
    """Scores of a model on a split.

    split       its name
    num_images  in the split
    metrics     by name, each with value and, where known, low and high (95%)
    classes     likewise by class, with its number of `images` or `pixels`
    note        whether the model was trained or chosen on the split
    notes       on the data
    """

    split: str
    num_images: int
    metrics: dict[str, dict[str, float]]
    classes: dict[str, dict[str, Any]]
    note: str = ""
    notes: tuple[str, ...] = ()


def evaluate_export(
    export_dir: Path,
    spec: str,
    split: str | None = None,
    *,
    cache_dir: Path | None = None,
    read_as: ReadAs = READ_AS,
    device: torch.device | None = None,
) -> Judged:
    """Judge an export on a split of the data `spec`.

    Nothing is trained or split, so a class may have one image, and the data may lack classes.

        export_dir  the export
        spec        the data
        split       None takes test; without one, or if it was kept back, val of the model's own data; all of other data
        cache_dir   for decoded images, or None
        read_as     how the data is read
        device      None takes CUDA where there is one

    Raises InputError if the model does not know a class of the data, or the split has no image.
    """
    if split is not None and split not in SPLITS:
        raise ConfigError(f"unknown --split '{split}'. {did_you_mean(split, SPLITS)}")
    exported = load_export(export_dir, device)
    described = _described(export_dir)
    members = (exported,) if isinstance(exported, ExportedModel) else exported.members
    dataset, images = load_dataset(
        spec,
        task=exported.config.task,
        seed=exported.config.seed,
        **replace(
            read_as,
            for_training=False,
            group=read_as.group or described.get("group"),
            channels=channels_of(members[0].config),
        ).options(),
        short_side_px=cached_short_side(members[0].config),
        cache_dir=cache_dir,
        decode_within_s=MOST_DECODING_S,
    )
    check_bands(members[0].config, dataset, "the model")
    # Settle the classes and the split, which is the model's own on the data that it was trained on.
    dataset = with_model_classes(dataset, members[0], described)
    known = described.get("fingerprint") == dataset.fingerprint
    if known:
        dataset = as_described(dataset, described)
    kept_back = known and described.get("kept_back", False)  # then nothing looks at test unasked
    having = ["val"] if kept_back else ["test", "val"] if known else ["test"]
    chosen = split or next((name for name in having if len(dataset.indices(name))), "all")
    dataset = readable(one_split(dataset, chosen), chosen)
    # Each member sees the images at its own size.
    keep_views(images, [View.of(member.config) for member in members], dataset.indices(chosen))
    data = TrialData(dataset, images)
    found = []
    _, labels, _ = classes_and_labels(members[0].config, data)
    if isinstance(labels, Merge) and isinstance(exported, ExportedEnsemble) and not exported.votes:
        predictions = _means(exported, data, chosen)
        values = _of_masks(predictions, data, chosen, labels)
    else:
        for member in members:
            _, labels, _ = classes_and_labels(member.config, data)
            found.append(evaluate(member.config, member.models, data, labels, member.device, split=chosen))
        values = found[0].metrics
        predictions = found[0].predictions
        if not isinstance(exported, ExportedModel):
            values, predictions = _together(exported, [one.predictions for one in found], data, labels, chosen)
    values = {name.removeprefix("val/"): value for name, value in values.items()}
    unseen = " The test split is kept back: --split test judges the model on it." if kept_back and not split else ""
    note = CHOSEN_BY[chosen] + unseen if known else "These are not the images that the model was trained on."
    judged = judge(exported.config, values, predictions, data, chosen)
    return replace(judged, note=note, notes=(*dataset.notes, *_absent(judged)))


def _together(
    ensemble: ExportedEnsemble, each: Sequence[Mapping[str, np.ndarray]], data: TrialData, labels: Labels, split: str
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return an ensemble's metrics and predictions on a split, from each member's predictions."""
    config = ensemble.config
    positions = data.dataset.indices(split)
    if isinstance(labels, Merge):
        shapes = each[0]["shapes"]
        ends = np.cumsum(shapes.prod(axis=1))[:-1]
        pixels = [np.split(one["masks"], ends) for one in each]
        votes = [ensemble.vote(decided) for decided in zip(*pixels, strict=True)]
        predictions = {"masks": np.concatenate(votes), "shapes": shapes}
        return _of_masks(predictions, data, split, labels), predictions
    logits = mean_logits(config.task, [torch.from_numpy(one["logits"]) for one in each], ensemble.weights)
    targets = labels[torch.from_numpy(positions)]
    values = score(config.task, logits, targets, len(ensemble.classes), config.threshold)
    return values, {"logits": logits.numpy()}


def _means(ensemble: ExportedEnsemble, data: TrialData, split: str) -> dict[str, np.ndarray]:
    """Return the decisions of segmenters whose probabilities are averaged, one image at a time."""
    views = [(eval_transform(one.config), data.judged(one.config, split).images) for one in ensemble.members]
    masks = []
    shapes = []
    for position in data.dataset.indices(split).tolist():
        seen = tuple(transform(image=images[position])["image"] for transform, images in views)
        shapes.append(data.images.mask(position).shape[:2])
        masks += [mask.reshape(-1) for mask in ensemble.masks_of([seen], shapes[-1:])]
    return {"masks": np.concatenate(masks), "shapes": np.array(shapes, dtype=np.int64)}


def _of_masks(predictions: Mapping[str, np.ndarray], data: TrialData, split: str, labels: Merge) -> dict[str, float]:
    confusions = _confusions(predictions, data, data.dataset.indices(split), labels)
    return scores_of(torch.from_numpy(confusions.sum(axis=0)), labels.classes)


def judge(
    config: TrialConfig, values: Mapping[str, float], predictions: Mapping[str, np.ndarray], data: TrialData, split: str
) -> Judged:
    """Return the scores of a split, with intervals around `values`.

    `values` are metrics by name without `val/`, and `predictions` are those of the split, in its order. A single image
    has no intervals: resampled, it is always the same. A class without images has no scores.
    """
    positions = data.dataset.indices(split)
    classes, labels, _ = classes_and_labels(config, data)
    if isinstance(labels, Merge):
        # A segmenter: intervals over the images' confusions, and the IoU of each class.
        confusions = _confusions(predictions, data, positions, labels)
        intervals = mask_intervals(confusions, classes) if len(positions) > 1 else NO_INTERVALS
        pixels = confusions.sum(axis=(0, 2))  # (C,) of the truth
        iou = {name: values[f"iou/{name}"] for name in classes if f"iou/{name}" in values}
        per_class = {
            name: {"pixels": int(count), **({"iou": iou[name]} if name in iou else {})}
            for name, count in zip(classes, pixels, strict=True)
        }
        values = {name: value for name, value in values.items() if not name.startswith("iou/")}
    else:
        # A classifier: intervals over the images' logits, and the decision metrics of each class.
        logits = torch.from_numpy(predictions["logits"])
        targets = labels[torch.from_numpy(positions)]
        intervals = NO_INTERVALS
        if len(positions) > 1:
            intervals = label_intervals(config.task, logits, targets, classes, config.threshold)
        once = np.ones((1, len(positions)))
        _, scores = label_scores(config.task, logits, targets, config.threshold, once)
        present = targets.sum(dim=0).long().tolist()
        images = [len(positions) - present[0], present[0]] if task_kind(config.task).one_output else present
        per_class = {
            name: {
                "images": images[i],
                **({metric: float(found[0, i]) for metric, found in scores.items()} if images[i] else {}),
            }
            for i, name in enumerate(classes)
        }
    return Judged(
        split,
        len(positions),
        estimates(values, intervals.metrics),
        {name: _with_intervals(row, intervals.classes.get(name, {})) for name, row in per_class.items()},
    )


def _absent(judged: Judged) -> list[str]:
    absent = [name for name, row in judged.classes.items() if not row.get("images", row.get("pixels"))]
    return [f"No image of the split shows {quoted(absent)}."] if absent else []


def _described(export_dir: Path) -> dict[str, Any]:
    path = export_dir / "data.json"
    if not os.path.lexists(path):
        return {}  # what the model was trained on is then not known
    described = read_object(path, "Export the trial anew.")
    for where, value in search_problems({"data": described}):
        name = where.removeprefix("data.")
        raise RunError(f"{path}: is damaged ('{name}' is {short(value)}). Export the trial anew.")
    return described


def _confusions(
    predictions: Mapping[str, np.ndarray], data: TrialData, positions: np.ndarray, merge: Merge
) -> np.ndarray:
    """Return one confusion matrix for each image, (N, C, C)."""
    found = []
    start = 0
    for position, (height, width) in zip(positions.tolist(), predictions["shapes"].tolist(), strict=True):
        decided = predictions["masks"][start : start + height * width].reshape(height, width)
        truth = merge.table[data.images.mask(position)]
        found.append(confusion_of(truth, decided, len(merge.classes)))
        start += height * width
    return np.stack(found)


def _with_intervals(row: Mapping[str, Any], intervals: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    counts = {name: value for name, value in row.items() if isinstance(value, int)}
    return counts | estimates({name: value for name, value in row.items() if name not in counts}, intervals)
