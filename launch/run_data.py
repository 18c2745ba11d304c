"""The data that a run was searched on, opened again."""

from __future__ import annotations

from pathlib import Path

from analysis.load import Run
from launch.preflight import short_side_px
from search_spaces.serial import search_from_json
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.data.read_as import ReadAs
from trainables.data.same_data import require_same

__all__ = ["data_of_run", "require_same"]


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
