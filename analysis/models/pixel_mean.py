"""Ensembles of segmenters by the mean of their probabilities: their decisions, and the choice of members.

A pixel on which all agree is decided at any weights. Probabilities are kept only of other pixels, up to a bound. So a
choice among many models takes little memory. It needs no second pass over the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from trainables.data.dataset import VOID
from trainables.evaluate import at_size
from trainables.pixel_scores import scores_of

MOST_DOUBTFUL = 2**17  # most pixels whose probabilities are kept, drawn from all that are in doubt


@torch.no_grad()
def decide_together(logits: Sequence[Tensor], weights: Sequence[float], size: Sequence[int]) -> Tensor:
    """Return the most likely class of each pixel, (H, W) uint8, by the models' weighted mean probability.

    logits   (1, C, h, w) of each model, with its own h and w
    weights  one of each model
    size     (H, W) that the logits are resized to

    The result is that of the mean of `at_size(one, size).softmax(1)`. It is computed a class at a time. A photo's C
    full-size maps may not fit into memory.
    """
    planes = [one.contiguous() for one in logits]
    norms = [_log_sum_exp(one, size) for one in planes]
    best: Tensor | None = None
    for number in range(planes[0].shape[1]):
        mean = torch.zeros_like(norms[0])
        for one, norm, weight in zip(planes, norms, weights, strict=True):
            mean += weight * (_plane(one, number, size) - norm).exp()
        if best is None:
            best = mean
            decision = torch.zeros(mean.shape, dtype=torch.uint8, device=mean.device)
            continue
        decision[mean > best] = number  # the first of equals stays, as argmax has it
        torch.maximum(best, mean, out=best)
    return decision


def _log_sum_exp(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Return (H, W), the log-sum-exp over the classes."""
    total = _plane(logits, 0, size).clone()
    for number in range(1, logits.shape[1]):
        torch.logaddexp(total, _plane(logits, number, size), out=total)
    return total


def _plane(logits: Tensor, number: int, size: Sequence[int]) -> Tensor:
    return at_size(logits[:, number : number + 1], size)[0, 0]


@dataclass(frozen=True, eq=False)
class Doubts:
    """The P pixels on which models disagree, and counts of those on which they agree.

    agreed  (A, 4) int64 rows of image, truth, decision and number of pixels
    places  of each image the flat positions of its doubtful pixels in its mask
    truth   (P,) of all doubtful pixels, image by image
    image   (P,) number of the image
    pixels  (P,) how many pixels each stands for
    """

    classes: tuple[str, ...]
    agreed: np.ndarray
    places: tuple[np.ndarray, ...]
    truth: np.ndarray
    image: np.ndarray
    pixels: np.ndarray


def doubts_of(
    classes: tuple[str, ...], masks: Sequence[np.ndarray], truths: Iterable[np.ndarray], most: int = MOST_DOUBTFUL
) -> Doubts:
    """Return where models disagree. About `most` pixels are kept at most, the same share of each image's.

    masks, truths  as `members.pixel_members` takes them
    """
    # Count the pixels on which all agree, and find the others, image by image.
    num = len(classes)
    agreed = []
    places = list[np.ndarray]()
    true = list[np.ndarray]()
    start = 0
    for number, truth in enumerate(truths):
        flat = truth.reshape(-1).astype(np.int64)
        end = start + truth.size
        decided = [mask[start:end] for mask in masks]
        known = flat != VOID
        alike = np.logical_and.reduce([one == decided[0] for one in decided])
        code, counts = np.unique(flat[known & alike] * num + decided[0][known & alike], return_counts=True)
        agreed.append(np.stack([np.full(len(code), number), code // num, code % num, counts], axis=1))
        places.append(np.flatnonzero(known & ~alike))
        true.append(flat)
        start = end
    # Draw the pixels that are kept. Each stands for an equal share of all doubtful pixels of its image.
    share = min(1.0, most / max(1, sum(map(len, places))))
    rng = np.random.default_rng(0)
    kept = [np.sort(rng.permutation(one)[: round(share * len(one) + 0.5)]) for one in places]
    stands_for = [np.full(len(some), len(all_) / max(1, len(some))) for some, all_ in zip(kept, places, strict=True)]
    return Doubts(
        classes=classes,
        agreed=np.concatenate(agreed),
        places=tuple(kept),
        truth=np.concatenate([flat[some] for flat, some in zip(true, kept, strict=True)]),
        image=np.repeat(np.arange(len(kept)), [len(some) for some in kept]),
        pixels=np.concatenate(stands_for),
    )


def doubtful(logits: Tensor, size: Sequence[int], places: np.ndarray) -> Tensor:
    """Return the probabilities (P, C) of an image's doubtful pixels.

    logits  (1, C, h, w) of the image
    size    (H, W) of its mask
    places  (P,) flat positions in the mask
    """
    return at_size(logits, size)[0].flatten(1)[:, torch.from_numpy(places).to(logits.device)].softmax(0).T.cpu()


@dataclass(frozen=True, eq=False)
class MeanMembers:
    """The probabilities of M segmenters. If all agree on a row, their decision has probability 1.

    probabilities  (M, R, C) float32
    truth, image   (R,) int64
    pixels         (R,) float64, how many pixels a row stands for
    """

    classes: tuple[str, ...]
    probabilities: Tensor
    truth: Tensor
    pixels: Tensor
    image: Tensor

    def __len__(self) -> int:
        return len(self.probabilities)

    def of_images(self, images: np.ndarray) -> MeanMembers:
        """Return the members on the images (n,) int64 alone."""
        rows = torch.isin(self.image, torch.from_numpy(images))
        return replace(
            self,
            probabilities=self.probabilities[:, rows],
            truth=self.truth[rows],
            pixels=self.pixels[rows],
            image=self.image[rows],
        )

    def contribution(self, member: int) -> Tensor:
        """Return a member's probabilities (R, C). `metrics` takes their sum."""
        return self.probabilities[member]

    def metrics(self, total: Tensor, chosen: Sequence[int], only: str | None = None) -> dict[str, float]:
        """Return the metrics of the mean of the members `chosen`, by name without `val/`.

        total  sum of their contributions
        """
        num = len(self.classes)
        counts = torch.bincount(self.truth * num + total.argmax(1), weights=self.pixels, minlength=num * num)
        return scores_of(counts.reshape(num, num), self.classes)


def mean_members(doubts: Doubts, probabilities: Tensor) -> MeanMembers:
    """Return the members from the pixels in doubt and the probabilities (M, P, C) of each model on them."""
    image, truth, decided, pixels = torch.from_numpy(doubts.agreed).unbind(1)
    certain = F.one_hot(decided, len(doubts.classes)).float().expand(len(probabilities), -1, -1)
    return MeanMembers(
        doubts.classes,
        torch.cat([certain, probabilities], dim=1),
        torch.cat([truth, torch.from_numpy(doubts.truth)]),
        torch.cat([pixels.double(), torch.from_numpy(doubts.pixels)]),
        torch.cat([image, torch.from_numpy(doubts.image)]),
    )
