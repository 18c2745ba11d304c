"""Seeds of epochs and batches, no two of them alike."""

from __future__ import annotations

import random

import numpy as np
import torch


def derived_seed(*key: int) -> int:
    """A seed of 64 bits from a key such as (seed, epoch), by NumPy's hash (`np.random.SeedSequence`).

    Sums would repeat: seed 1 would see in its first epoch what seed 0 saw in its second.
    """
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def seed_everything(seed: int) -> None:
    """Seed the global generators of this process, which dropout and mixing draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # timm's mixup draws from here
    torch.manual_seed(seed)  # the GPUs too
