"""Judge models on a split: metrics, and the predictions that are kept of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.data.augment import eval_transform
from trainables.data.loader import Labels, TrialData, batches, whole_images
from trainables.data.merge import Merge
from trainables.inference import predict_batch, predict_logits, raise_if_asked
from trainables.pixel_scores import PixelScores
from trainables.tasks import score


@dataclass(frozen=True)
class Evaluation:
    """metrics: by name, with `val/` in front. predictions: of every image of the split, in its order:

    logits (N, K) float32; or for segmentation the decisions, `masks` (all pixels one after the other) uint8 at the
    masks' own sizes and `shapes` (N, 2) int64, their heights and widths.
    """

    metrics: dict[str, float]
    predictions: dict[str, np.ndarray]


def evaluate(
    config: TrialConfig,
    models: Sequence[nn.Module],
    data: TrialData,
    labels: Labels,
    device: torch.device,
    *,
    split: str = "val",
    num_workers: int = 0,
    stop: Callable[[], str | None] | None = None,
    epoch: int = 0,
) -> Evaluation:
    """Of one model, or of several epochs' mean probability. labels: as `loader.batches` takes them.

    Raises Interrupted when asked to stop.
    """
    for model in models:
        model.eval()
    judge = _segmentation if isinstance(labels, Merge) else _classification
    values, predictions = judge(config, models, data, labels, device, split, num_workers, stop or (lambda: None), epoch)
    return Evaluation({f"val/{name}": value for name, value in values.items()}, predictions)


def _classification(
    config: TrialConfig,
    models: Sequence[nn.Module],
    data: TrialData,
    labels: Labels,
    device: torch.device,
    split: str,
    num_workers: int,
    stop: Callable[[], str | None],
    epoch: int,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    split_batches = batches(
        data, split, labels, eval_transform(config), config.batch_size,
        num_workers=num_workers, pin_memory=device.type == "cuda",
    )  # fmt: skip
    logits, targets = predict_logits(config, models, split_batches, device, stop, epoch)
    values = score(config.task, logits, targets, len(data.dataset.classes), config.threshold)
    return values, {"logits": logits.cpu().numpy()}


@torch.no_grad()
def _segmentation(
    config: TrialConfig,
    models: Sequence[nn.Module],
    data: TrialData,
    labels: Labels,
    device: torch.device,
    split: str,
    num_workers: int,
    stop: Callable[[], str | None],
    epoch: int,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    assert isinstance(labels, Merge)
    scores = PixelScores(labels.classes, device)
    masks_of_all, shapes = [], []
    for images_u8, masks in whole_images(
        data, split, labels, eval_transform(config), config.batch_size, num_workers=num_workers
    ):
        raise_if_asked(stop, epoch)
        logits = at_size(predict_batch(config, models, images_u8, device), masks.shape[-2:])
        decision = scores.update(logits, masks.to(device).long()).cpu().numpy()
        masks_of_all.append(decision.reshape(-1))
        shapes += [decision.shape[1:]] * len(decision)
    predictions = {"masks": np.concatenate(masks_of_all), "shapes": np.array(shapes, dtype=np.int64)}
    return scores.compute(), predictions


def at_size(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits (B, C, h, w) brought to a mask's own height and width, so that every trial is judged on the same pixels
    whatever size its network sees."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
