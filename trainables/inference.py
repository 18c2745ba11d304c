"""From uint8 batches to logits, shared by training, validation, prediction and export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainables.config.trial import TrialConfig
from trainables.models.classifiers import Classifier
from trainables.precision import precision_in_force
from trainables.tasks import TASKS, mean_logits
from visionsweep.core.errors import Interrupted
from visionsweep.core.tasks import task_kind

# Images that a CPU evaluates at once. More, or larger ones, do not fit into its caches: 64 at 128 px take nearly twice
# as long for each image as 16, and 16 at 224 px a quarter longer than 4.
CPU_CHUNK = 16
CPU_CHUNK_PIXELS = 4 * 288**2
GPU_CHUNK = 512
GPU_CHUNK_PIXELS = 128 * 224**2
GPU_BATCHES = 8

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def autocast(config: TrialConfig, device: torch.device) -> torch.autocast:
    """Return torch's autocast to the precision in force on this device (see `precision_in_force`)."""
    used = precision_in_force(config, device)
    return torch.autocast(device.type, dtype=DTYPES[used], enabled=used != "fp32")


def to_input(images_u8: Tensor, model: Any, config: TrialConfig, device: torch.device) -> Tensor:
    """Return images (B, H, W, 3) uint8 as (B, 3, H, W) float on the device, normalised as the backbone expects.

    Conversion on the device transfers a quarter of the bytes and spares the loader's cores. Mean and std are buffers
    there. Tensors made here would synchronise with a GPU at every batch.
    """
    pixels = images_u8.to(device, non_blocking=True).permute(0, 3, 1, 2)  # channels last already
    images: Tensor = (pixels.float() - model.pixel_mean) / model.pixel_std  # (B, 3, H, W) float, normalised
    return images if config.channels_last else images.contiguous()


def chunk_images(config: TrialConfig, device: torch.device) -> int:
    """Return the number of images that a classifier evaluates at once, a power of two on a CPU.

    The last bits of an image's features depend on the number of images beside it. On a CPU it is the same for all batch
    sizes. So their trials share features, and `evaluate` and `predict` reproduce the search. A GPU takes many, but at
    most GPU_BATCHES training batches: without a backward pass each needs a fraction of what training keeps.
    """
    pixels = config.image_size**2
    if device.type == "cpu":
        most = min(CPU_CHUNK, CPU_CHUNK_PIXELS // pixels)
    else:
        most = min(GPU_CHUNK, GPU_CHUNK_PIXELS // pixels, GPU_BATCHES * config.batch_size)
    return int(2 ** (max(1, most).bit_length() - 1))


@torch.no_grad()
def features_of(config: TrialConfig, model: Classifier, images_u8: Tensor, device: torch.device) -> Tensor:
    """Return features (B, F) of images (B, H, W, 3) uint8, in the type of the precision in force."""
    with autocast(config, device):
        return model.features(to_input(images_u8, model, config, device))


@torch.no_grad()
def predict_features(
    config: TrialConfig, models: Sequence[nn.Module], features: Tensor, device: torch.device
) -> Tensor:
    """Return logits (N, K) float32 from features (N, F) that all of the models' backbones share.

    They equal those of `predict_batch` on the images in chunks of `chunk_images`.
    """
    # Copies are aligned as the backbone's own output is, which the last bits of a product depend on.
    chunks = [
        chunk.clone().to(device, non_blocking=True) for chunk in torch.split(features, chunk_images(config, device))
    ]
    each = []
    for head in (model.get_submodule("head") for model in models):
        with autocast(config, device):
            each.append(torch.cat([head(chunk).float() for chunk in chunks]))
    return each[0] if len(each) == 1 else mean_logits(config.task, each)


@torch.inference_mode()
def predict_batch(config: TrialConfig, models: Sequence[nn.Module], images_u8: Tensor, device: torch.device) -> Tensor:
    """Return logits (B, K) float32, or (B, C, H, W) of a segmenter, from images (B, H, W, 3) uint8.

    The logits of several models (an ensemble of epochs) are those of their mean probability. The models must be in
    evaluation mode and share one normalisation. A CPU takes a classifier's images in chunks.
    """
    if device.type == "cpu" and not task_kind(config.task).pixels and len(images_u8) > chunk_images(config, device):
        chunks = torch.split(images_u8, chunk_images(config, device))
        return torch.cat([predict_batch(config, models, chunk, device) for chunk in chunks])
    images = to_input(images_u8, models[0], config, device)
    logits = [_run(config, model, images, device) for model in models]
    return logits[0] if len(logits) == 1 else mean_logits(config.task, logits)


def _run(config: TrialConfig, model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    if task_kind(config.task).pixels and config.evaluation == "tiled":
        return _tiled(config, model, images, device)
    with autocast(config, device):
        logits = model(images)
    return logits.float()  # type: ignore[no-any-return]


def _tiled(config: TrialConfig, model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Return logits from windows of image_size, as in training. Probabilities are averaged where windows overlap."""
    task = TASKS[config.task]
    total: Tensor | None = None
    counts = images.new_zeros(images.shape[-2:])  # (H, W): how many windows saw a pixel
    for top, bottom in windows(images.shape[-2], config.image_size, config.tile_overlap):
        for left, right in windows(images.shape[-1], config.image_size, config.tile_overlap):
            with autocast(config, device):
                logits = model(images[..., top:bottom, left:right])
            probabilities = task.probabilities(logits.float())
            if total is None:
                total = probabilities.new_zeros((*probabilities.shape[:2], *images.shape[-2:]))
            total[..., top:bottom, left:right] += probabilities
            counts[top:bottom, left:right] += 1
    assert total is not None
    return task.to_logits(total / counts)


def windows(length: int, size: int, overlap: float) -> list[tuple[int, int]]:
    """Return (start, end) of evenly spread windows over `length`. Neighbours share at least `overlap` of `size`."""
    if length <= size:
        return [(0, length)]
    stride = max(1, int(size * (1 - overlap)))
    steps = -(-(length - size) // stride)  # rounded up
    return [(start, start + size) for start in (round(i * (length - size) / steps) for i in range(steps + 1))]


@torch.inference_mode()
def predict_logits(
    config: TrialConfig,
    models: Sequence[nn.Module],
    split_batches: Iterator[tuple[Tensor, Tensor]],
    device: torch.device,
    stop: Callable[[], str | None],
    epoch: int,
) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) float32 and targets (N, K) of a whole split. Raises Interrupted when asked to stop."""
    all_logits = []
    all_targets = []
    for images_u8, targets in split_batches:
        raise_if_asked(stop, epoch)
        all_logits.append(predict_batch(config, models, images_u8, device))
        all_targets.append(targets.to(device, non_blocking=True))
    return torch.cat(all_logits), torch.cat(all_targets)


def raise_if_asked(should_stop: Callable[[], str | None], epoch: int) -> None:
    if reason := should_stop():
        raise Interrupted(f"{reason} (during epoch {epoch})")
