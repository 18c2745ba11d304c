"""What the parts of one search tell each other about its trials: searcher, scheduler, callback and watch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from visionsweep.run_dir.trials import Trial


@dataclass(frozen=True)
class TrialNotes:
    """Notes on trials, made before the parts of a search, and handed to each of them.

        not_begun      Ray's ids of trials whose process died before it took them; the searcher proposes them again
        to_copy        trials of a population of which copies are to be proposed, in this order
        cut            by trial, why the search ended before its process had begun
        pruned         by trial, why it was ended early, if its rung is not the reason
        given_up       by trial, why it was given up, if its process cannot say so
        out_of_memory  by trial, why its machine's memory did not suffice

    Trials are named by the run's own ids, except in `not_begun`.
    """

    not_begun: set[str] = field(default_factory=set)
    to_copy: deque[str] = field(default_factory=deque)
    cut: dict[str, str] = field(default_factory=dict)
    pruned: dict[str, str] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    out_of_memory: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """What a pruner has to know beside its search.

    past     trials of a resumed run
    notes    where it writes which trials it ended for what, and which are to be copied
    running  most trials of a population that run at once, None means as many as fit
    folds    number of folds that a complete trial is judged on, 1 without any
    """

    past: Sequence[Trial] = ()
    notes: TrialNotes = field(default_factory=TrialNotes)
    running: int | None = None
    folds: int = 1
