"""Evaluate models on a split: metrics, and the predictions that are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

from trainables.config.trial import TrialConfig
from trainables.data.augment import eval_transform
from trainables.data.loader import Labels, TrialData, batches, whole_images
from trainables.data.loader_processes import Loaders
from trainables.data.merge import Merge
from trainables.inference import chunk_images, predict_batch, predict_features, predict_logits, raise_if_asked
from trainables.pixel_scores import PixelScores
from trainables.tasks import score
from visionsweep.core.tasks import task_kind


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    metrics      by name, with `val/`
    predictions  of every image of the split, in its order: `logits` (N, K) float32

    For segmentation the predictions are the decisions at the masks' own sizes. `masks` uint8 holds all pixels, image
    by image. `shapes` (N, 2) int64 holds heights and widths. `pixels` (N, 3, C) int64 counts the pixels of each class:
    rightly decided, true and decided ones. `classes` names the C classes.
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
    loaders: Loaders | None = None,
    stop: Callable[[], str | None] | None = None,
    epoch: int = 0,
    features: Tensor | None = None,
) -> Evaluation:
    """Evaluate a model, or the mean probability of several.

    labels    as `loader.batches` takes them
    loaders   of a training that evaluates this split after each epoch, in place of `num_workers`
    stop      asked before every batch; a reason ends the evaluation
    epoch     named when it is interrupted
    features  (N, F) kept features of the split's images (see `features/features.py`), which spare the backbone; None
              runs it

    Return an empty evaluation for a split without images. Raises Interrupted when asked to stop.
    """
    if not len(data.dataset.indices(split)):
        return Evaluation({}, {})
    for model in models:
        model.eval()
    ask = stop or (lambda: None)
    if features is not None:
        assert isinstance(labels, Tensor)  # a classifier's: those of masks are not kept
        raise_if_asked(ask, epoch)
        logits = predict_features(config, models, features, device)
        targets = labels[torch.from_numpy(data.dataset.indices(split))].to(device)
        values, predictions = _scored(config, logits, targets, data)
    else:
        judge = _segmentation if task_kind(config.task).pixels else _classification
        seen = data.judged(config, split)
        with Loaders(num_workers, device) if loaders is None else nullcontext(loaders) as loading:
            values, predictions = judge(config, models, seen, labels, device, split, loading, ask, epoch)
    return Evaluation({f"val/{name}": value for name, value in values.items()}, predictions)


def _classification(
    config: TrialConfig,
    models: Sequence[nn.Module],
    data: TrialData,
    labels: Labels,
    device: torch.device,
    split: str,
    loaders: Loaders,
    stop: Callable[[], str | None],
    epoch: int,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    transform = eval_transform(config)
    split_batches = loaders.held(
        split, lambda: batches(data, split, labels, transform, chunk_images(config, device), loaders=loaders)
    )
    logits, targets = predict_logits(config, models, split_batches, device, stop, epoch)
    return _scored(config, logits, targets, data)


def _scored(
    config: TrialConfig, logits: Tensor, targets: Tensor, data: TrialData
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
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
    loaders: Loaders,
    stop: Callable[[], str | None],
    epoch: int,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    assert isinstance(labels, Merge)
    scores = PixelScores(labels.classes, device)
    decided = bytearray()  # bytes that grow in place: joining arrays at the end would hold them twice
    shapes = []
    # Whole images may be many times as large as the crops of training, which are known to fit into memory.
    most = config.batch_size * config.image_size**2
    split_batches = loaders.held(
        split,
        lambda: whole_images(
            data, split, labels, eval_transform(config), config.batch_size, max_pixels=most, loaders=loaders
        ),
    )
    for images_u8, masks in split_batches:
        raise_if_asked(stop, epoch)
        truth = masks.to(device, non_blocking=True)
        logits = predict_batch(config, models, images_u8, device)
        # One by one: at the masks' size the logits of 20 classes take 80 times the bytes of an image's mask. A GPU is
        # waited for only once, when the batch's decisions are fetched.
        decisions = [
            scores.update(at_size(logits[i : i + 1], masks.shape[-2:]), truth[i : i + 1].long())
            for i in range(len(masks))
        ]
        decided.extend(torch.cat(decisions).cpu().numpy().tobytes())
        shapes += [tuple(masks.shape[-2:])] * len(masks)
    predictions: dict[str, np.ndarray] = {
        "masks": np.frombuffer(decided, np.uint8),
        "shapes": np.array(shapes, dtype=np.int64),
        "pixels": torch.stack(scores.counts).cpu().numpy(),
        "classes": np.array(labels.classes),
    }
    return scores.compute(), predictions


def at_size(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Resize logits (B, C, h, w) to a mask's own height and width.

    So every trial is evaluated on the same pixels, at any image size of its network.
    """
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def decide_at_size(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Return the most likely class of each pixel, (H, W) uint8, from logits (1, C, h, w) resized to (H, W).

    The result is that of `at_size(logits, size).argmax(1)`. It is computed a class at a time. A photo's C full-size
    maps may not fit into memory.
    """
    planes = logits.contiguous()
    best = at_size(planes[:, :1], size)[0, 0].clone()
    decision = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for number in range(1, planes.shape[1]):
        plane = at_size(planes[:, number : number + 1], size)[0, 0]
        decision[plane > best] = number  # the first of equals stays, as argmax has it
        torch.maximum(best, plane, out=best)
    return decision
