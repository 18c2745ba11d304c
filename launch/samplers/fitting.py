"""Which configurations still fit into the rest of a budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from launch.samplers.cost_model import TrialCosts
from launch.samplers.encoding import Encoder, Rows
from launch.samplers.lengths import Lengths
from launch.samplers.work import Known, Work
from search_spaces.search import Search

# Safety factor on the expected cost: a trial that the budget cuts off is wasted. In simulated searches of the space of
# classification-cpu (280 s, two workers, 10 seeds) 0.6 trials instead of 1.0 were cut off, and 31 instead of 23
# completed.
MARGIN = 1.25


class Fitting:
    """Decides whether a configuration can be trained in the time that is left.

    search  for one task, with every option settled
    known   what predicts costs before the first trial, None where nothing does
    folds   that a complete trial is judged on, 1 without any
    """

    def __init__(self, search: Search, known: Known | None = None, folds: int = 1) -> None:
        space = search.full_space
        self.encoder = Encoder(space)
        self.lengths = Lengths(space, self.encoder, search.epochs)
        work = None if known is None else Work(space, self.lengths, known)
        self.cost = TrialCosts(space, work)
        # Whole trials must fit where the space has shorter ones to propose instead, else only their first rung.
        self.margin = MARGIN if self.lengths.vary else 1.0
        self.share = float(folds) if self.lengths.vary else min(search.grace_epochs / search.epochs, 1.0)

    def of_rows(self, rows: Rows, trials: Sequence[FrozenTrial], left_s: float) -> NDArray[np.bool_]:
        """Return which rows (n, num_parameters) fit into `left_s` seconds, (n,) bool.

        All of them do before the first timed trial.
        """
        seconds = self.cost.of_rows(rows, trials)
        if seconds is None:
            return np.ones(len(rows), dtype=bool)
        epochs = np.ceil(self.share * self.lengths.of(rows) * (1 - 1e-9))
        return np.asarray(self.margin * seconds * epochs <= left_s)
