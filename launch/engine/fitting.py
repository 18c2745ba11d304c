"""Which configurations still fit into what is left of a budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from launch.engine.cost import TrialCosts
from launch.engine.lengths import Lengths
from launch.engine.vectors import Rows, Vectors
from launch.engine.work import Known, Work
from search_spaces.search import Search

# Of what is expected: a trial that the budget cuts off has cost all of its time. In simulated searches of the space of
# classification-cpu, 280 s on two workers, 0.6 trials were cut off instead of 1.0 (10 seeds), and 31 complete, not 23.
MARGIN = 1.25


class Fitting:
    """search: for one task, all settled. known: what tells costs before trials do, None for nothing."""

    def __init__(self, search: Search, known: Known | None = None) -> None:
        space = search.full_space
        self.vectors = Vectors(space)
        self.lengths = Lengths(space, self.vectors, search.epochs)
        work = None if known is None else Work(space, self.lengths, known)
        self.cost = TrialCosts(space, work)
        # To the first rung, or to the end, where the space has shorter ones to propose instead.
        self.margin = MARGIN if self.lengths.vary else 1.0
        self.share = 1.0 if self.lengths.vary else min(search.grace_epochs / search.epochs, 1.0)

    def of_rows(self, rows: Rows, trials: Sequence[FrozenTrial], left_s: float) -> NDArray[np.bool_]:
        """(n,) bool of rows (n, num_parameters), as far as the study's trials tell what they cost; True while none
        has."""
        seconds = self.cost.of_rows(rows, trials)
        if seconds is None:
            return np.ones(len(rows), dtype=bool)
        epochs = np.ceil(self.share * self.lengths.of(rows) * (1 - 1e-9))
        return np.asarray(self.margin * seconds * epochs <= left_s)
