"""Choice among probes where few images validate: on all images, each predicted by a head that has not seen it.

A probe's strength is found by cross-validation, whose heads predict every training image without having seen it (see
`trainables.features.probe.SolvedEpoch`). With the validation images that is four or five times as many images as the
validation split alone. Other trainings have seen all training images. So they are compared with probes on the
validation images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from analysis.models.ensemble_selection import LabelMembers, label_members
from analysis.models.kept import Kept
from trainables.data.loader import TrialData
from trainables.features.probe import ENOUGH_TO_CHOOSE, UNSEEN
from trainables.tasks import LABEL_TASKS
from visionsweep.core.tasks import task_kind

MOST_DEVIATIONS = 2.0  # difference of the losses on training and validation images above which folds cannot choose


@dataclass(frozen=True, eq=False)
class Folded:
    """Training images, then validation images. members: the probes' predictions. targets: as in the data."""

    members: LabelMembers
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


def is_small(data: TrialData) -> bool:
    """Return whether a choice by the validation images alone is often luck, because so few of them have labels."""
    return not task_kind(data.dataset.task).pixels and len(data.dataset.indices("val")) < ENOUGH_TO_CHOOSE


def folded(data: TrialData, probes: Sequence[Kept], notes: list[str]) -> Folded | None:
    """Return the probes' predictions of training and validation images, or None where folds cannot choose.

    Folds cannot choose where training images belong together and a manual split keeps them apart, such as photos of one
    object or slices of one patient. The heads of folds have then seen an image's siblings, and look better than they
    are. It shows as a loss that differs from that of the validation images by more than chance, and a note reports it.
    A search with folds keeps such images together, and every one of its models has predictions of all images.
    """
    dataset = data.dataset
    if not is_small(data) and dataset.folds is None:
        return None
    rows = [dataset.indices(split) for split in ("train", "val")]
    if len(probes) < 2 or any(len(one.predictions.get(UNSEEN, ())) != len(rows[0]) for one in probes):
        return None
    targets = dataset.targets[np.concatenate(rows)]
    logits = [np.concatenate([one.predictions[UNSEEN], one.predictions["logits"]]) for one in probes]
    losses = _losses(dataset.task, logits, targets, len(dataset.classes))
    trained = losses[: len(rows[0])]
    judged = losses[len(rows[0]) :]
    error = float(np.sqrt(trained.var() / len(trained) + judged.var() / len(judged)))
    if dataset.folds is None and abs(trained.mean() - judged.mean()) > MOST_DEVIATIONS * error:
        notes.append(
            f"The validation images alone chose. Left out in turn, the training images have a loss of "
            f"{trained.mean():.3f} and the validation images one of {judged.mean():.3f}: they are of other kinds, or "
            "photos of one object are in several folds."
        )
        return None
    thresholds = [one.config.threshold for one in probes]
    return Folded(label_members(dataset.task, dataset.classes, logits, targets, thresholds), targets)


def how_chosen(data: TrialData, metric: str, num_images: int | None, first: Kept, single: Kept) -> list[str]:
    """Return sentences on what chose the best model alone, where it was not its rank.

    num_images  number of images that chose, None for the validation images
    first       of the ranking
    single      the model that was chosen
    """
    lines = []
    if num_images is not None and data.dataset.folds is not None:
        lines.append(f"All {num_images} images chose, each predicted by the model of a fold that has not seen it.")
    elif num_images is not None:
        lines.append(
            f"All {num_images} images chose, each predicted by a head of the probe that has not seen it: "
            f"{len(data.dataset.indices('val'))} validation images alone would often choose by luck."
        )
    if single.trial_id != first.trial_id:
        lines.append(
            f"By {metric} on the validation images trial {first.trial_id} is the first ({first.value:.4f}; trial "
            f"{single.trial_id}: {single.value:.4f}), and --single exports it."
        )
    return lines


def _losses(task: str, logits: Sequence[np.ndarray], targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the plain loss (N,) of each image, averaged over the models."""
    encoded = LABEL_TASKS[task].encode(targets, num_classes)
    plain_loss = LABEL_TASKS[task].plain_loss

    def of_image(predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return plain_loss(predicted[None], wanted[None])

    per_image = torch.func.vmap(of_image)
    found = torch.stack([per_image(torch.from_numpy(one), encoded) for one in logits])
    return found.mean(dim=0).double().numpy()
