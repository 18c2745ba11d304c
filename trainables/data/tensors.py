"""Images as one tensor. A file of its own, as `view.py` is needed where torch is not imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_tensor(images: Sequence[npt.NDArray[Any]]) -> Tensor:
    """Stack images of one size, (B, H, W, C). Those of 16 bits become float32, as torch hardly knows uint16."""
    stacked = np.stack(images)
    return torch.from_numpy(stacked.astype(np.float32) if stacked.dtype == np.uint16 else stacked)
