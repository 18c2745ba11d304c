"""The validation predictions of several models side by side, and what they would score together.

task                    kept of a model     together
labels of whole images  logits              the weighted mean of the probabilities
segmentation            masks, decided      the weighted vote of each pixel: probabilities of all pixels would take
                                            four bytes per class and pixel, where a decision takes one. With the models
                                            at hand their mean probability (`pixel_mean.py`)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trainables.data.dataset import VOID
from trainables.pixel_mean import MeanMembers
from trainables.pixel_scores import scores_of
from trainables.tasks import LABEL_TASKS, TASKS, score

# The first member's vote weighs this much more, so that it decides where the others are split evenly.
FIRST_VOTE = 0.5
VOTE = 2  # votes are counted in halves: small whole numbers are several times faster to count than fractions


@dataclass(frozen=True, eq=False)
class LabelMembers:
    """probabilities (M, N, K) of M models; targets (N, K) float; thresholds: each model's own.

    complements (M, N, K): one minus them, as exactly as they are known; None takes the difference. Multiclass has none.
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
        """Only the images (n,) int64."""
        rows = torch.from_numpy(images)
        others = None if self.complements is None else self.complements[:, rows]
        return replace(self, probabilities=self.probabilities[:, rows], targets=self.targets[rows], complements=others)

    def contribution(self, member: int) -> Tensor:
        """A member's likelihoods (see `tasks.Task`), whose sum `metrics` takes."""
        yes = self.probabilities[member].double()  # (N, K)
        if self.task == "multiclass":
            return yes
        return torch.stack([yes, 1 - yes if self.complements is None else self.complements[member].double()])

    def metrics(self, total: Tensor, chosen: Sequence[int], only: str | None = None) -> dict[str, float]:
        """The metrics by name (without `val/`) of the mean of the members `chosen`, whose contributions are summed."""
        logits = TASKS[self.task].from_likelihoods(total / len(chosen))
        threshold = threshold_of([self.thresholds[member] for member in chosen])
        return score(self.task, logits, self.targets, self.num_classes, threshold, only)


def threshold_of(thresholds: Sequence[float]) -> float:
    """Of a mean probability: the mean of what its members decide by."""
    return float(np.mean(thresholds))


@dataclass(frozen=True, eq=False)
class PixelMembers:
    """Pixels on which the truth and all M decisions are alike are one row of R: `pixels` (R,) says how many those are,
    `image` (R,) whose. truth (R,), decisions (M, R): class numbers. All int64."""

    classes: tuple[str, ...]
    decisions: Tensor
    truth: Tensor
    pixels: Tensor
    image: Tensor

    def __len__(self) -> int:
        return len(self.decisions)

    def of_images(self, images: np.ndarray) -> PixelMembers:
        """Only the images (n,) int64."""
        rows = torch.isin(self.image, torch.from_numpy(images))
        return PixelMembers(
            self.classes, self.decisions[:, rows], self.truth[rows], self.pixels[rows], self.image[rows]
        )

    def contribution(self, member: int) -> Tensor:
        """What a member adds to the sum that `metrics` takes: its votes (R, C) int16, each counted VOTE times."""
        votes = torch.zeros((len(self.truth), len(self.classes)), dtype=torch.int16)
        return votes.scatter_(1, self.decisions[member].unsqueeze(1), VOTE)

    def metrics(self, total: Tensor, chosen: Sequence[int], only: str | None = None) -> dict[str, float]:
        """The metrics by name (without `val/`) of the vote of the members `chosen`, whose votes are summed."""
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
    """logits: (N, K) of each model. targets: as the data set stores those of the N images."""
    stacked = torch.stack([TASKS[task].likelihoods(torch.from_numpy(one)) for one in logits])
    yes, no = (stacked, None) if task == "multiclass" else (stacked[:, 0], stacked[:, 1])
    encoded = LABEL_TASKS[task].encode(targets, len(classes))
    return LabelMembers(task, len(classes), yes, encoded, tuple(thresholds), no)


def pixel_members(classes: tuple[str, ...], masks: Sequence[np.ndarray], truths: Iterable[np.ndarray]) -> PixelMembers:
    """masks: of each model the decisions of all pixels of all images, one after the other, uint8. truths: the images'
    masks (H, W) uint8 in the same order; void pixels do not count."""
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
    """The place of one pixel of each combination of truth and decisions, and how many pixels have it."""
    code, most = true, num_classes
    for mask in decided:
        if most > 2**62 // num_classes:  # the combinations so far, numbered anew: the code must fit into 64 bits
            found, code = np.unique(code, return_inverse=True)
            most = len(found)
        code, most = code * num_classes + mask, most * num_classes
    _, first, pixels = np.unique(code, return_index=True, return_counts=True)
    return first, pixels


def greedy(
    members: Members,
    value: Callable[[dict[str, float]], float],
    metric: str,
    size: int,
    patience: int | None = None,
) -> list[int]:
    """Ensemble selection with replacement (Caruana et al. 2004, "Ensemble selection from libraries of models", ICML):
    begin with the best member and add, `size` times at most, whichever makes the whole best.

    members: the best first. value: of the metrics, higher is better. Ties go to the member that was taken least often
    (a vote of two decides as the first of them, and only with a third are there majorities), then to the better one.
    patience: it ends after so many that did not help; None goes on to the end.
    Returns the members in the order they were taken, one taken twice stands twice; what did not help any more at the
    end is left out.
    """
    chosen: list[int] = []
    idle = 0
    best: tuple[float, list[int]] | None = None
    total: Tensor | int = 0
    for _ in range(size):
        tried = []
        for member in range(len(members)):
            together = members.metrics(total + members.contribution(member), [*chosen, member], metric)
            tried.append((value(together), -chosen.count(member), -member))
        reached, _, negative = max(tried)
        chosen = [*chosen, -negative]
        total = total + members.contribution(-negative)
        idle += 1
        if best is None or reached > best[0]:
            best, idle = (reached, chosen), 0
        if idle == patience:
            break
    assert best is not None, size
    return best[1]


def together(members: Members, chosen: Sequence[int], only: str | None = None) -> dict[str, float]:
    """The metrics of chosen members, with `val/` in front."""
    parts = [count * members.contribution(member) for member, count in Counter(chosen).items()]
    total = torch.stack(parts).sum(dim=0)
    return {f"val/{name}": number for name, number in members.metrics(total, chosen, only).items()}
