"""The data of a run, opened again for trainings as those of its search."""

from __future__ import annotations

from analysis.models.open_run_data import open_run_data
from launch.search.settled import SettledSearch
from search_spaces.serial import search_from_json
from trainables.data.loader import TrialData
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import value_at


def data_of_run(run: Run, named: str | None = None) -> TrialData:
    """Return the data that a run was searched on, with the images of its search, from the run's cache.

    named, and what is raised: see `open_run_data`.
    """
    search = search_from_json(value_at(run.search, "search"))
    return open_run_data(run, SettledSearch.of(search).short_side_px, named)
