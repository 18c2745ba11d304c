"""Divide passes through the training set into epochs of `epoch_images`.

Pure functions of seeds and positions. So a resumed training sees the images that its next epoch would have had.
"""

from __future__ import annotations

import torch

from trainables.config.trial import TrialConfig
from trainables.data.loader import in_batches, num_used, passes
from trainables.seeds import derived_seed

PASS = 1_000_003  # keeps the seeds of passes apart from those of epochs, (seed, epoch), and of views


def epoch_size(config: TrialConfig, num_images: int) -> int:
    """Return how many images an epoch trains on. num_images: of the training set."""
    if config.views is not None:  # so many images were drawn, and an epoch is all of them
        learnt = min(config.epoch_images or num_images, num_images)
        used = learnt * passes(config, learnt)
    else:
        whole = num_images * passes(config, num_images)
        used = min(config.epoch_images or whole, whole)
    return num_used(used, config.batch_size, config.accumulate)


def is_piece(config: TrialConfig, num_images: int) -> bool:
    """Whether an epoch is less than the whole training set of so many images."""
    capped = config.epoch_images is not None and config.views is None
    return capped and (config.epoch_images or 0) < num_images * passes(config, num_images)


def piece_of_stream(config: TrialConfig, num_images: int, epoch: int) -> list[list[int]] | None:
    """Return the draws of each batch of an epoch, counted from 0. None if an epoch is the whole set in its own order.

    Epochs are pieces of one stream of passes over the set, each shuffled anew. So every image is seen equally often,
    give or take one, however long the epochs are. Draws mean the same as in `loader.shuffled`.
    """
    if not is_piece(config, num_images):
        return None
    whole = num_images * passes(config, num_images)
    left = epoch_size(config, num_images)
    start = epoch * left
    order = list[int]()
    while left:
        number, place = divmod(start, whole)
        generator = torch.Generator().manual_seed(derived_seed(config.seed, number, PASS))
        piece = torch.randperm(whole, generator=generator)[place : place + left].tolist()
        order += piece
        start = start + len(piece)
        left = left - len(piece)
    return in_batches(order, config.batch_size)
