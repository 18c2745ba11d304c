"""The data of a run, opened again."""

from __future__ import annotations

from analysis.models.run_source import source_of
from launch.search.settled import SettledSearch
from search_spaces.serial import search_from_json
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.data.read_as import ReadAs
from trainables.data.same_data import require_same
from visionsweep.run_dir.load import Run
from visionsweep.run_dir.shapes import value_at

__all__ = ["data_of_run", "require_same"]


def data_of_run(run: Run, named: str | None = None) -> TrialData:
    """Return the data that a run was searched on, with the run's split, from the run's cache.

    named: where the user says that it is, None: where the run says. Raises RunError if it is no longer the same, or
    would be fetched from where somebody else says.
    """
    options = value_at(run.search, "options")
    data, cache_dir = source_of(run.search, named)
    dataset, images = load_dataset(
        data,
        task=value_at(run.search, "data.task"),
        seed=options.get("seed", 0),
        **ReadAs.of(options).options(),
        short_side_px=SettledSearch.of(search_from_json(value_at(run.search, "search"))).short_side_px,
        cache_dir=cache_dir,
    )
    require_same(dataset, data, value_at(run.search, "data"))
    return TrialData(dataset, images)
