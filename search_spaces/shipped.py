"""The shipped searches by name."""

from __future__ import annotations

from search_spaces import classification, classification_gpu, quickstart, segmentation
from search_spaces.search import Search

SEARCHES: dict[str, Search] = {
    "quickstart": quickstart.QUICKSTART,
    "quickstart-segmentation": quickstart.QUICKSTART_SEGMENTATION,
    "classification-cpu": classification.CPU,
    "classification-gpu-small": classification_gpu.GPU_SMALL,
    "classification-gpu-large": classification_gpu.GPU_LARGE,
    "segmentation-cpu": segmentation.CPU,
    "segmentation-gpu-small": segmentation.GPU_SMALL,
    "segmentation-gpu-large": segmentation.GPU_LARGE,
}
