"""The data that a run was searched on, opened again."""

from __future__ import annotations

from analysis.load import Run
from analysis.shapes import cache_dir_of, value_at
from launch.preflight import short_side_px
from search_spaces.serial import search_from_json
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.data.read_as import ReadAs
from trainables.data.same_data import require_same

__all__ = ["data_of_run", "require_same"]


def data_of_run(run: Run) -> TrialData:
    """With the run's split, from the run's cache. Raises RunError where it is no longer the same."""
    options, data = value_at(run.search, "options"), value_at(run.search, "options.data")
    dataset, images = load_dataset(
        data,
        task=value_at(run.search, "data.task"),
        seed=options.get("seed", 0),
        **ReadAs.of(options).options(),
        short_side_px=short_side_px(search_from_json(value_at(run.search, "search"))),
        cache_dir=cache_dir_of(run.search),
    )
    require_same(dataset, data, value_at(run.search, "data"))
    return TrialData(dataset, images)
