"""From uint8 batches to logits: what training, validation, prediction and export share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.errors import Interrupted
from trainables.config import TrialConfig
from trainables.precision import precision_in_force
from trainables.tasks import TASKS, mean_logits

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def autocast(config: TrialConfig, device: torch.device) -> torch.autocast:
    """The precision that the configuration comes to on this device (see `precision_in_force`)."""
    used = precision_in_force(config, device)
    return torch.autocast(device.type, dtype=DTYPES[used], enabled=used != "fp32")


def to_input(images_u8: Tensor, model: Any, config: TrialConfig, device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float, normalised with the backbone's own mean and std.

    On the device: a quarter of the bytes travel, and the loader's cores are spared. The colours lie there already: a
    tensor made here from numbers would have a GPU waited for at every batch.
    """
    pixels = images_u8.to(device, non_blocking=True).permute(0, 3, 1, 2)  # channels last already
    images: Tensor = (pixels.float() - model.pixel_mean) / model.pixel_std  # (B, 3, H, W) float, normalised
    return images if config.channels_last else images.contiguous()


@torch.no_grad()
def predict_batch(config: TrialConfig, models: Sequence[nn.Module], images_u8: Tensor, device: torch.device) -> Tensor:
    """Logits (B, K) float32, or (B, C, H, W) of a segmenter, from images (B, H, W, 3) uint8.

    Of several models (an ensemble of epochs) the logits are those of their mean probability. The models are in
    evaluation mode, and normalise alike.
    """
    images = to_input(images_u8, models[0], config, device)
    logits = [_run(config, model, images, device) for model in models]
    return logits[0] if len(logits) == 1 else mean_logits(config.task, logits)


def _run(config: TrialConfig, model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    if config.task == "segmentation" and config.evaluation == "tiled":
        return _tiled(config, model, images, device)
    with autocast(config, device):
        logits = model(images)
    return logits.float()  # type: ignore[no-any-return]


def _tiled(config: TrialConfig, model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Windows of image_size, as in training; where they overlap, the logits of the mean of their probabilities."""
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
    """(start, end) of windows that cover `length`, evenly spread, neighbours sharing at least `overlap` of `size`."""
    if length <= size:
        return [(0, length)]
    stride = max(1, int(size * (1 - overlap)))
    steps = -(-(length - size) // stride)  # rounded up
    return [(start, start + size) for start in (round(i * (length - size) / steps) for i in range(steps + 1))]


@torch.no_grad()
def predict_logits(
    config: TrialConfig,
    models: Sequence[nn.Module],
    split_batches: Iterator[tuple[Tensor, Tensor]],
    device: torch.device,
    stop: Callable[[], str | None],
    epoch: int,
) -> tuple[Tensor, Tensor]:
    """logits (N, K) float32 and targets (N, K) of a whole split. Raises Interrupted when asked to stop."""
    all_logits, all_targets = [], []
    for images_u8, targets in split_batches:
        raise_if_asked(stop, epoch)
        all_logits.append(predict_batch(config, models, images_u8, device))
        all_targets.append(targets.to(device))
    return torch.cat(all_logits), torch.cat(all_targets)


def raise_if_asked(should_stop: Callable[[], str | None], epoch: int) -> None:
    if reason := should_stop():
        raise Interrupted(f"{reason} (during epoch {epoch})")
