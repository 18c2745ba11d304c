"""One thread count per trial."""

from __future__ import annotations

import cv2
import torch


def limit_threads(num_threads: int) -> None:
    """Trials side by side must not fight for cores: one thread count for arithmetic, none for OpenCV's own pool."""
    torch.set_num_threads(max(1, num_threads))
    cv2.setNumThreads(0)
