"""How much a backbone computes, without computing it."""

from __future__ import annotations

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.errors import InputError
from trainables.models.backbones import create_backbone

SIDE_PX = 224


@cache
def forward_gflops(name: str) -> float:
    """Giga-FLOPs of one image of 224 px through a backbone; 1.0 for one that cannot be counted so.

    On torch's meta device, where a tensor has a shape and no values: a few tenths of a second for any network.
    """
    try:
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            create_backbone(name, SIDE_PX).module.eval()(torch.empty(1, 3, SIDE_PX, SIDE_PX))
    except (InputError, RuntimeError, NotImplementedError):  # of another fixed size, or made of what meta has not
        return 1.0
    return max(float(counter.get_total_flops()) / 1e9, 1e-3)
