"""A search that is settled: its task, its metric and its space are those of the data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from launch.search import preflight
from search_spaces.search import Search
from trainables.data.dataset import Dataset
from trainables.data.view import View
from visionsweep.core.objectives import Objective


@dataclass(frozen=True)
class SettledSearch(Search):
    """A search for the task of its data, from which everything that follows is computed once.

    It is a Search, so samplers and pruners take it too. They know spaces, and no data.

        full_space     what configurations are drawn from
        compared       the objectives
        short_side_px  size at which images are stored
        views          in which trials see validation images
        rung_at        where trials are compared
    """

    @classmethod
    def of(cls, search: Search) -> SettledSearch:
        """Return a search that was settled before, such as that of a run that is resumed."""
        return cls(**{field.name: getattr(search, field.name) for field in fields(Search)})

    @cached_property
    def full_space(self) -> dict[str, Any]:
        return super().full_space

    @cached_property
    def compared(self) -> tuple[Objective, ...]:
        return super().compared

    @cached_property
    def rung_at(self) -> tuple[float, ...]:
        return super().rung_at

    @cached_property
    def short_side_px(self) -> int:
        return preflight.short_side_px(self)

    @cached_property
    def views(self) -> tuple[View, ...]:
        return tuple(preflight.views(self))


def settle(search: Search, dataset: Dataset) -> tuple[SettledSearch, tuple[str, ...]]:
    """Return the search for a data set, and a sentence for each part that was left out because it does not fit.

    Raises ConfigError or DataError if the two do not fit together.
    """
    search = search.for_task(dataset.task)
    search, of_regimes = preflight.with_fitting_regimes(search)
    search, of_batches = preflight.with_fitting_batches(search, dataset)
    preflight.check_data(search, dataset)
    return SettledSearch.of(search), (*of_regimes, *of_batches)
