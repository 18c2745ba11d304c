"""The data that a run was searched on, opened again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.load import Run
from launch.preflight import short_side_px
from search_spaces.errors import RunError
from search_spaces.serial import search_from_json
from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.data.read_as import ReadAs


def data_of_run(run: Run) -> TrialData:
    """With the run's split, from the run's cache. Raises RunError where it is no longer the same."""
    options, was = run.search["options"], run.search["data"]
    dataset, images = load_dataset(
        options["data"],
        task=was["task"],
        seed=options["seed"],
        **ReadAs.of(options).options(),
        short_side_px=short_side_px(search_from_json(run.search["search"])),
        cache_dir=None if options["cache_dir"] is None else Path(options["cache_dir"]),
    )
    require_same(dataset, options["data"], was)
    return TrialData(dataset, images)


def require_same(dataset: Dataset, spec: str, was: Mapping[str, Any]) -> None:
    """was: what `Dataset.describe` gave when the run began. Raises RunError where the images, their labels or the split
    are others now."""
    val = [dataset.names[position] for position in dataset.indices("val")]
    if dataset.fingerprint != was["fingerprint"] or val != was["val"]:
        raise RunError(
            f"the data at {spec} is not the run's data (fingerprint {dataset.fingerprint}, was {was['fingerprint']}, "
            "or another split). Restore it, or start a new run."
        )
