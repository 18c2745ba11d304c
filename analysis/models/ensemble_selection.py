"""Ensemble selection: the validation predictions of several models side by side, and what they score together.

task                    kept of a model    together
labels of whole images  logits             the weighted mean of the probabilities
segmentation            decided masks      the weighted vote of each pixel

Probabilities of all pixels would take four bytes per class and pixel, a decision takes one. If the models themselves
are at hand, `pixel_mean.py` takes their mean probability instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from analysis.models.pixel_mean import MeanMembers
from trainables.data.dataset import VOID
from trainables.pixel_scores import scores_of
from trainables.tasks import LABEL_TASKS, TASKS, score
from visionsweep.core.tasks import task_kind

# Additional weight of the first member's vote, so that it decides where the others are split evenly.
FIRST_VOTE = 0.5
VOTE = 2  # votes are counted in halves: small whole numbers are several times faster to count than fractions


@dataclass(frozen=True, eq=False)
class LabelMembers:
    """The predictions of M models of whole images.

    probabilities  (M, N, K)
    targets        (N, K) float
    thresholds     one of each model
    complements    (M, N, K), 1 - probabilities without rounding; None takes the difference; multiclass needs none
    """

    task: str
    num_classes: int
    probabilities: Tensor
    targets: Tensor
    thresholds: tuple[float, ...]
    complements: Tensor | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    def of_images(self, images: np.ndarray) -> LabelMembers:
        """Return the members on the images (n,) int64 alone."""
        rows = torch.from_numpy(images)
        others = None if self.complements is None else self.complements[:, rows]
        return replace(self, probabilities=self.probabilities[:, rows], targets=self.targets[rows], complements=others)

    def contribution(self, member: int) -> Tensor:
        """Return a member's likelihoods (see `tasks.Task`). `metrics` takes their sum."""
        yes = self.probabilities[member].double()  # (N, K)
        if task_kind(self.task).softmax:
            return yes
        return torch.stack([yes, 1 - yes if self.complements is None else self.complements[member].double()])

    def metrics(self, total: Tensor, chosen: Sequence[int], only: str | None = None) -> dict[str, float]:
        """Return the metrics of the mean of the members `chosen`, by name without `val/`.

        total  sum of their contributions
        only   the one metric to compute, None for all
        """
        logits = TASKS[self.task].from_likelihoods(total / len(chosen))
        threshold = threshold_of([self.thresholds[member] for member in chosen])
        return score(self.task, logits, self.targets, self.num_classes, threshold, only)

    def each(self, loss_share: float) -> Tensor:
        """Return (M, N) float64: whether each model is right about each image, less a share of its loss there.

        Of tasks with one class for an image.
        """
        yes = self.probabilities.double()
        if task_kind(self.task).softmax:
            right = yes.argmax(dim=-1) == self.targets.argmax(dim=-1)
            of_truth = (yes * self.targets).sum(dim=-1)
        else:
            truth = self.targets[:, 0] > 0.5  # (N,)
            right = (yes[:, :, 0] >= torch.tensor(self.thresholds)[:, None]) == truth
            of_truth = torch.where(truth, yes[:, :, 0], 1 - yes[:, :, 0])
        return right + loss_share * of_truth.clamp(min=1e-12).log()


def threshold_of(thresholds: Sequence[float]) -> float:
    """Return the threshold of a mean probability, the mean of its members' thresholds."""
    return float(np.mean(thresholds))


@dataclass(frozen=True, eq=False)
class PixelMembers:
    """The decisions of M segmenters. Pixels of an image with equal truth and decisions share one of R rows.

    decisions  (M, R) int64 class numbers
    truth      (R,) int64 class numbers
    pixels     (R,) int64, number of pixels of the row
    image      (R,) int64, number of their image
    """

    classes: tuple[str, ...]
    decisions: Tensor
    truth: Tensor
    pixels: Tensor
    image: Tensor

    def __len__(self) -> int:
        return len(self.decisions)

    def of_images(self, images: np.ndarray) -> PixelMembers:
        """Return the members on the images (n,) int64 alone."""
        rows = torch.isin(self.image, torch.from_numpy(images))
        return PixelMembers(
            self.classes, self.decisions[:, rows], self.truth[rows], self.pixels[rows], self.image[rows]
        )

    def contribution(self, member: int) -> Tensor:
        """Return a member's votes (R, C) int16, each counted VOTE times. `metrics` takes their sum."""
        votes = torch.zeros((len(self.truth), len(self.classes)), dtype=torch.int16)
        return votes.scatter_(1, self.decisions[member].unsqueeze(1), VOTE)

    def metrics(self, total: Tensor, chosen: Sequence[int], only: str | None = None) -> dict[str, float]:
        """Return the metrics of the vote of the members `chosen`, by name without `val/`.

        total  sum of their votes
        """
        first = self.decisions[chosen[0]].unsqueeze(1)
        decided = total.scatter_add(1, first, torch.full_like(first, int(VOTE * FIRST_VOTE), dtype=total.dtype)).argmax(
            1
        )
        num = len(self.classes)
        counts = torch.bincount(self.truth * num + decided, weights=self.pixels.double(), minlength=num * num)
        return scores_of(counts.reshape(num, num), self.classes)


Members = LabelMembers | PixelMembers | MeanMembers


def label_members(
    task: str, classes: Sequence[str], logits: Sequence[np.ndarray], targets: np.ndarray, thresholds: Sequence[float]
) -> LabelMembers:
    """Return the members from what the models and the data set store.

    logits      (N, K) of each model
    targets     of the N images, as the data set stores them
    thresholds  one of each model
    """
    stacked = torch.stack([TASKS[task].likelihoods(torch.from_numpy(one)) for one in logits])
    yes, no = (stacked, None) if task_kind(task).softmax else (stacked[:, 0], stacked[:, 1])
    encoded = LABEL_TASKS[task].encode(targets, len(classes))
    return LabelMembers(task, len(classes), yes, encoded, tuple(thresholds), no)


def pixel_members(classes: tuple[str, ...], masks: Sequence[np.ndarray], truths: Iterable[np.ndarray]) -> PixelMembers:
    """Return the members from masks. Void pixels do not count.

    masks   of each model the decisions of all pixels of all images, concatenated, uint8
    truths  the images' masks (H, W) uint8, in the same order
    """
    rows: list[tuple[np.ndarray, ...]] = []
    start = 0
    for number, truth in enumerate(truths):
        end = start + truth.size
        counts = truth.reshape(-1) != VOID
        true = truth.reshape(-1)[counts].astype(np.int64)
        decided = np.stack([mask[start:end][counts] for mask in masks])  # (M, pixels that count)
        first, pixels = _alike(true, decided, len(classes))
        rows.append((decided[:, first], true[first], pixels, np.full(len(first), number)))
        start = end
    decisions, *others = (
        torch.from_numpy(np.concatenate(part, axis=-1).astype(np.int64)) for part in zip(*rows, strict=True)
    )
    return PixelMembers(classes, decisions, *others)


def _alike(true: np.ndarray, decided: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of one pixel of each combination of truth and decisions, and the number of its pixels."""
    code = true
    most = num_classes
    for mask in decided:
        if most > 2**62 // num_classes:  # renumber the combinations so far: the code must fit into 64 bits
            found, code = np.unique(code, return_inverse=True)
            most = len(found)
        code = code * num_classes + mask
        most = most * num_classes
    _, first, pixels = np.unique(code, return_index=True, return_counts=True)
    return first, pixels


def select_members(
    members: Members,
    value: Callable[[dict[str, float]], float],
    metric: str,
    size: int,
    patience: int | None = None,
) -> list[int]:
    """Select an ensemble with replacement: add the member that makes the whole best, `size` times at most.

    members   best first
    value     of the metrics, higher is better
    metric    the one metric that `value` needs
    size      most members, repeated ones counted
    patience  ends after so many additions without a gain; None never does

    Return the members in the order of their choice, up to the last gain. A member taken twice is listed twice.
    Ties go to the member taken least often, then to the better one. A vote needs a third member for a majority.

    Caruana et al. 2004, "Ensemble selection from libraries of models" (ICML).
    """
    chosen: list[int] = []
    idle = 0
    best: tuple[float, list[int]] | None = None
    total: Tensor | int = 0
    for _ in range(size):
        tried = []
        for member in range(len(members)):
            metrics = members.metrics(total + members.contribution(member), [*chosen, member], metric)
            tried.append((value(metrics), -chosen.count(member), -member))
        reached, _, negative = max(tried)
        chosen = [*chosen, -negative]
        total = total + members.contribution(-negative)
        idle += 1
        if best is None or reached > best[0]:
            best = (reached, chosen)
            idle = 0
        if idle == patience:
            break
    assert best is not None, size
    return best[1]


def score_ensemble(members: Members, chosen: Sequence[int], only: str | None = None) -> dict[str, float]:
    """Return the metrics of the chosen members together, by name with `val/`."""
    parts = [count * members.contribution(member) for member, count in Counter(chosen).items()]
    total = torch.stack(parts).sum(dim=0)
    return {f"val/{name}": number for name, number in members.metrics(total, chosen, only).items()}
