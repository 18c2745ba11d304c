"""What a trial's stored state says of its epochs, for who trains nothing: torch is imported only where one is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def stored_row(path: Path) -> dict[str, Any] | None:
    """Return the result of the last epoch in a last.pt, None if the file cannot be read. `load_state` says why."""
    try:
        row: dict[str, Any] = _stored(path)["row"]
    except Exception:
        return None
    return row


def stored_rows(path: Path, trial_id: str) -> list[dict[str, Any]]:
    """Return the results of all of the trial's epochs in a last.pt, [] if it cannot be read.

    Epochs of another trial, which the file was copied from, are left out.
    """
    try:
        stored = _stored(path)
        rows: list[dict[str, Any]] = stored.get("rows", [{"trial_id": trial_id, **stored["row"]}])  # none before 0.5
        return [row for row in rows if row["trial_id"] == trial_id]
    except Exception:
        return []


def stored_fold(path: Path) -> tuple[int, float]:
    """Return the fold that a last.pt is of, and how long its epochs took. One that cannot be read is of the first."""
    try:
        stored = _stored(path)
        return int(stored.get("fold", 1)), float(stored.get("fold_seconds", 0.0))
    except Exception:
        return 1, 0.0


def _stored(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(path)
    import torch

    stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return stored
