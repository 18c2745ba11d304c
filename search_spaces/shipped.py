"""The shipped searches by name."""

from __future__ import annotations

from search_spaces import classification, quickstart
from search_spaces.search import Search

SEARCHES: dict[str, Search] = {
    "quickstart": quickstart.QUICKSTART,
    "classification-cpu": classification.CPU,
    "classification-gpu-small": classification.GPU_SMALL,
    "classification-gpu-large": classification.GPU_LARGE,
}
