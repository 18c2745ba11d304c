"""The refits of a run that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainables.data.loader import TrialData
from trainables.data.same_data import what_changed
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_object


def finished(out: Path, data: TrialData) -> dict[str, Any] | None:
    """Return the metrics of a refit that is whole and on this data, else None.

    A refit that was cut off has its training beside it.
    """
    if not (out / "data.json").is_file() or out.with_name(f"{out.name}.training").exists():
        return None
    try:
        metrics = read_object(out / "metrics.json")
        same = not what_changed(data.dataset, read_object(out / "data.json"))
    except (RunError, TypeError, AttributeError):
        return None  # damaged: it is trained again
    return metrics if same else None
