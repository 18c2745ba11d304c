"""Distinct seeds of epochs and batches."""

from __future__ import annotations

import random

import numpy as np
import torch


def derived_seed(*key: int) -> int:
    """Return a 64-bit seed for a key such as (seed, epoch), by NumPy's hash (`np.random.SeedSequence`).

    Sums would repeat: the first epoch of seed 1 would equal the second epoch of seed 0.
    """
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def seed_everything(seed: int) -> None:
    """Seed the global generators of this process, which dropout and mixing draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # timm's mixup draws from here
    torch.manual_seed(seed)  # the GPUs too
