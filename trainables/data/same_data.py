"""Whether the data of a run or an export has changed: its images, its labels or its split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainables.data.dataset import SPLITS, UNJUDGED, Dataset
from visionsweep.core.errors import RunError
from visionsweep.core.words import counted, quoted

SHOWN = 3  # names of images that moved


def require_same(dataset: Dataset, spec: str, was: Mapping[str, Any]) -> None:
    """Raise RunError where the data at `spec` is not that of the run. was: what `Dataset.describe` gave then."""
    if changed := what_changed(dataset, was):
        raise RunError(f"the data at {spec} is not the run's data: {changed}. Restore it, or start a new run.")


def what_changed(dataset: Dataset, was: Mapping[str, Any]) -> str:
    """Return in words how the data differs from its `Dataset.describe` record, or '' if it does not.

    A fingerprint covers images and labels, not the split. Older versions did not write `test` or `counts`.
    """
    before = was.get("fingerprint")
    if dataset.fingerprint != before:
        return f"its images, labels or masks are others now (fingerprint {dataset.fingerprint}, was {before})"
    moved: dict[tuple[str, str], list[str]] = {}
    listed = [split for split in ("val", "test") if split in was]
    then_of = {name: split for split in listed for name in was[split]}
    for name, now in zip(dataset.names, dataset.split.tolist(), strict=True):
        then = then_of.get(name, "train")  # or left out: only the counts tell
        if then != now and (then in listed or now in listed):
            moved.setdefault((then, now), []).append(name)
    if moved:
        return ", and ".join(_said(then, now, names) for (then, now), names in moved.items())
    counts = was.get("counts", {})
    differing = [
        f"{split} has {counted(len(dataset.indices(split)), 'image')}, had {counts[split]:,}"
        for split in (*SPLITS, UNJUDGED)
        if split in counts and counts[split] != len(dataset.indices(split))
    ]
    return ", and ".join(differing)


def split_digest(split: np.ndarray) -> str:
    """Return 16 hex digits that change with the split (N,) of the images."""
    return hashlib.sha256("\0".join(split.tolist()).encode()).hexdigest()[:16]


def _said(then: str, now: str, names: list[str]) -> str:
    return f"{counted(len(names), 'image')} moved from {then} to {now} ({quoted(names, SHOWN)})"
