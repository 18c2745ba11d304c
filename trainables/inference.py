"""From uint8 batches to logits: what training, validation, prediction and export share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.errors import Interrupted
from trainables.config import TrialConfig

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def autocast(config: TrialConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=DTYPES[config.precision], enabled=config.precision != "fp32")


def to_input(images_u8: Tensor, model: Any, config: TrialConfig, device: torch.device) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float, normalised with the backbone's own mean and std.

    On the device: a quarter of the bytes travel, and the loader's cores are spared. The colours lie there already: a
    tensor made here from numbers would have a GPU waited for at every batch.
    """
    pixels = images_u8.to(device, non_blocking=True).permute(0, 3, 1, 2)  # channels last already
    images: Tensor = (pixels.float() - model.pixel_mean) / model.pixel_std  # (B, 3, S, S) float, normalised
    return images if config.channels_last else images.contiguous()


@torch.no_grad()
def predict_logits(
    config: TrialConfig,
    model: nn.Module,
    split_batches: Iterator[tuple[Tensor, Tensor]],
    device: torch.device,
    should_stop: Callable[[], str | None],
    epoch: int,
) -> tuple[Tensor, Tensor]:
    """logits (N, K) float32 and targets (N, K) of a whole split. Raises Interrupted when asked to stop."""
    model.eval()
    all_logits, all_targets = [], []
    for images_u8, targets in split_batches:
        raise_if_asked(should_stop, epoch)
        with autocast(config, device):
            logits = model(to_input(images_u8, model, config, device))
        all_logits.append(logits.float())
        all_targets.append(targets.to(device))
    return torch.cat(all_logits), torch.cat(all_targets)


def raise_if_asked(should_stop: Callable[[], str | None], epoch: int) -> None:
    if reason := should_stop():
        raise Interrupted(f"{reason} (during epoch {epoch})")
