"""How many digits of a score are shown: as many as the validation images support."""

from __future__ import annotations

from visionsweep.core.tasks import task_kind
from visionsweep.run_dir.run import Run

ACCURACY = "val/accuracy"
DEFAULT = 3
MANY = 1000  # images: from here on, a thousandth is more than chance


def num_images(run: Run) -> int:
    """Return how many images validate, 0 where search.json does not say."""
    count = (run.search["data"].get("counts") or {}).get("val")
    return count if isinstance(count, int) else 0


def digits_of(run: Run) -> int:
    """Return the digits after the point of a share of the validation images: two below MANY images, else three."""
    return 2 if 0 < num_images(run) < MANY else DEFAULT


def rank_digits(run: Run) -> int:
    """Return the digits that tell two scores apart: one image more of 505 is 0.002, and of 40 it is 0.02."""
    return min(4, max(2, len(str(num_images(run))))) if num_images(run) else 4


def as_percent(run: Run) -> bool:
    """Return whether the score is the share of the images that are right."""
    return run.metric == ACCURACY and task_kind(run.task).one_label


def written(run: Run, value: float) -> str:
    """Return a score with its digits. A loss has no scale of its own: three digits that count."""
    if run.metric.endswith("loss"):
        return f"{value:.3g}"
    return f"{value:.{digits_of(run)}f}"
