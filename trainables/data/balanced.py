"""Balanced epochs: every class is drawn equally often, however many images it has.

Pure functions of seeds and positions, as in `order.py`.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from trainables.config.trial import TrialConfig
from trainables.data.loader import in_batches
from trainables.data.order import epoch_size
from trainables.seeds import derived_seed
from visionsweep.core.tasks import task_kind

DEALT = 2_000_003  # keeps the seeds of balanced draws apart from those of epochs, passes and views


def balanced_draws(config: TrialConfig, targets: Tensor, epoch: int) -> list[list[int]] | None:
    """Return the draws of each batch of an epoch, counted from 0. None if the configuration does not balance.

    An epoch has as many images as without balance. Draws mean the same as in `loader.shuffled`.

    targets: (n, K) float of the images that are trained on
    """
    if config.sampling != "balanced":
        return None
    total = epoch_size(config, len(targets))
    if task_kind(config.task).tags:
        order = _by_rarity(targets, total, derived_seed(config.seed, epoch, DEALT))
    else:
        classes = (targets[:, 0] > 0.5).long() if targets.shape[1] == 1 else targets.argmax(dim=1)
        order = _dealt(classes, total, config.seed, epoch)
    return in_batches(order, config.batch_size)


def _dealt(classes: Tensor, total: int, seed: int, epoch: int) -> list[int]:
    """Deal the places of an epoch to the classes in turn, and to the images of each class in turn.

    The dealing continues in the next epoch. So all images of a large class have their turn, and within a class every
    image is seen equally often, give or take one.
    """
    members = [torch.nonzero(classes == one).flatten() for one in sorted(set(classes.tolist()))]
    order = list[int]()
    for number, rows in enumerate(members):
        start, stop = (_turns(total * some, number, len(members)) for some in (epoch, epoch + 1))
        while start < stop:
            round_, place = divmod(start, len(rows))
            generator = torch.Generator().manual_seed(derived_seed(seed, round_, DEALT + 1 + number))
            shuffled = rows[torch.randperm(len(rows), generator=generator)][place : place + stop - start]
            order += (shuffled + round_ * len(classes)).tolist()
            start += len(shuffled)
    generator = torch.Generator().manual_seed(derived_seed(seed, epoch, DEALT))
    return [order[place] for place in torch.randperm(len(order), generator=generator).tolist()]


def _turns(dealt: int, number: int, players: int) -> int:
    """Return how many of the first `dealt` places the player `number` gets."""
    return (dealt - number + players - 1) // players


def _by_rarity(tags: Tensor, total: int, seed: int) -> list[int]:
    """Draw images with a probability of one over the frequency of their rarest tag.

    An image without a tag counts as one of a tag of its own. The rarest tag decides, as in LVIS (Gupta et al. 2019).
    """
    has = torch.cat([tags > 0.5, ~(tags > 0.5).any(dim=1, keepdim=True)], dim=1)
    counts = has.sum(dim=0).clamp(min=1)
    weights = (has / counts).amax(dim=1)
    drawn = torch.multinomial(weights, total, replacement=True, generator=torch.Generator().manual_seed(seed))
    times = Counter[int]()
    order = list[int]()
    for row in drawn.tolist():
        order.append(row + times[row] * len(tags))
        times[row] += 1
    return order
