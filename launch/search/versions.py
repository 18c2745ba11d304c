"""Versions of the libraries that a run was searched with, and a sentence if others are installed now."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from visionsweep.run_dir.sessions import versions_before, versions_changed

LIBRARIES = ("torch", "torchvision", "ray", "optuna", "timm", "albumentations", "torchmetrics", "visionsweep")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide what a trial gives."""
    return {"python": platform.python_version(), **{library: version(library) for library in LIBRARIES}}


def versions_note(search_json: Mapping[str, Any]) -> str | None:
    """Return a sentence if a run's last session had other versions than are installed, else None."""
    changed = versions_changed(versions_before(search_json), versions())
    if changed is None:
        return None
    return (
        f"Other versions are installed than the run had: trials before and after may differ by that alone ({changed})."
    )
