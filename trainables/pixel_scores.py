"""The metrics of segmentation, all from one confusion matrix that is summed over a whole split.

A mean over batches would weigh an image by the other images of its batch. It would weigh a rare class by how many
batches lack it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from trainables.data.dataset import VOID
from visionsweep.core.names import CLASS_IOU

COUNTED_ON = ("cpu", "mps")  # devices with a bincount, which need not add up int64 at places


class PixelScores:
    """Metrics that batches of logits (B, C, H, W) and masks (B, H, W) are added to. Void pixels do not count.

    counts: of each batch (3, C) int64, the pixels that are rightly of a class, that are of it, and that were predicted.
    """

    def __init__(self, classes: Sequence[str], device: torch.device) -> None:
        self.classes = classes
        self.cells = torch.zeros(len(classes) ** 2 + 1, dtype=torch.int64, device=device)  # the last is of void pixels
        self.losses = list[Tensor]()  # of each batch, summed over its pixels
        self.counts = list[Tensor]()

    def update(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Add a batch, and return its decision (B, H, W) uint8."""
        decision = logits.argmax(dim=1)
        size = len(self.classes)
        void = size**2  # one more cell
        cells = (masks * size + decision).masked_fill(masks == VOID, void).flatten()
        if cells.device.type not in COUNTED_ON:  # bincount would wait for the GPU, to learn the largest cell
            added = torch.zeros_like(self.cells).scatter_add_(0, cells, torch.ones_like(cells))
        else:
            added = torch.bincount(cells, minlength=len(self.cells))
        self.cells += added
        table = added[:void].reshape(size, size)
        self.counts.append(torch.stack([table.diagonal(), table.sum(dim=1), table.sum(dim=0)]))
        self.losses.append(F.cross_entropy(logits, masks, ignore_index=VOID, reduction="sum"))
        return decision.to(torch.uint8)

    @property
    def matrix(self) -> Tensor:
        """The confusion matrix (C, C) int64, rows truth and columns prediction, in the host's memory."""
        size = len(self.classes)
        return self.cells[:-1].reshape(size, size).cpu()

    def compute(self) -> dict[str, float]:
        """Return the metrics by name without `val/`, and the plain loss, the mean over the pixels that count."""
        matrix = self.matrix
        total = sum(torch.stack(self.losses).tolist()) if self.losses else 0.0  # in float64, which not every GPU has
        return {"loss": total / max(int(matrix.sum()), 1), **scores_of(matrix, self.classes)}


def scores_of(matrix: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Return the metrics of a confusion matrix (C, C) of counts, rows truth and columns prediction.

    miou              mean IoU over the classes that occur in the truth or the prediction
    num_classes_iou   number of those classes
    iou/CLASS         IoU of each of them
    mean_accuracy     mean recall over the classes of the truth
    pixel_accuracy    share of all pixels that are right
    fw_iou            IoU weighted by the classes' share of the truth

    {} if every pixel is void. Long et al. 2015 (arXiv:1411.4038, section 5).
    """
    counts = matrix.double()
    total = counts.sum()
    if total == 0:  # every pixel is void
        return {}
    hits = counts.diagonal()
    truth = counts.sum(dim=1)
    predicted = counts.sum(dim=0)
    iou = hits / (truth + predicted - hits)  # nan where a class is in neither
    accuracy = hits / truth  # nan where it is not in the truth
    values = {
        "miou": iou.nanmean(),
        "num_classes_iou": (~iou.isnan()).sum(),
        "pixel_accuracy": hits.sum() / total,
        "mean_accuracy": accuracy.nanmean(),
        "fw_iou": (truth / total * iou).nansum(),
        **{f"{CLASS_IOU.removeprefix('val/')}{name}": value for name, value in zip(classes, iou, strict=True)},
    }
    return {name: float(value) for name, value in values.items() if not math.isnan(float(value))}
