"""A study's trials as arrays for a model: rows of parameters, values at each rung, seconds per epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from launch.samplers.encoding import Encoder, Rows
from launch.samplers.lengths import Lengths
from visionsweep.core.objectives import Objective
from visionsweep.core.rungs import milestones

Vector: TypeAlias = NDArray[np.float64]

# User attributes of a study's trials.
INFEASIBLE = "infeasible"  # it diverged or ran out of memory: worse than any value
EPOCH_SECONDS = "epoch_seconds"  # the median so far
TRIAL_ID = "trial_id"  # in the run; a proposal that was replaced by another draw has none
FOLDS_FROM = "folds_from"  # the last epoch of the first fold; later steps are means over folds, at their best epochs
OUTCOME = "outcome:"  # prefix of an epoch: its values in each of several objectives, as measured


@dataclass(frozen=True)
class Ladder:
    """The epochs whose values count for the model: the first rung, each next one `factor` times later, and the last."""

    grace_epochs: int
    epochs: int
    factor: float = 3.0

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        return (*(round(epoch) for epoch in milestones(self.grace_epochs, self.factor, self.epochs)), self.epochs)

    def fidelity(self, epoch: float) -> float:
        """Return the fidelity of an epoch: 0 at the first rung, 1 at full training, linear in the logarithm between.

        It is below 0 before the first rung.

            epoch  of a trial of `epochs` epochs; epochs of shorter trials are stretched to that length before
        """
        low = math.log(min(self.grace_epochs, self.epochs))
        high = math.log(self.epochs)
        return 1.0 + math.log(epoch / self.epochs) if low >= high else (math.log(epoch) - low) / (high - low)


@dataclass(frozen=True)
class Seen:
    """One observed value of a trial at a fidelity.

    row       the trial's parameters
    fidelity  see `Ladder.fidelity`
    values    best so far in each objective, higher is better; minus infinity for infeasible
    """

    row: Rows
    fidelity: float
    values: tuple[float, ...]


class History:
    """The observations of a growing study: each finished trial is read once, the open ones again at every update."""

    def __init__(self, encoder: Encoder, ladder: Ladder, objectives: Sequence[Objective]) -> None:
        self.encoder = encoder
        self.ladder = ladder
        self.lengths = Lengths(encoder.space, encoder, ladder.epochs)
        self.signs = np.array([objective.sign for objective in objectives])
        self._num_ended_observed = 0
        self.num_ended_in_regimes = np.zeros(self.lengths.num_regimes)  # (num_regimes,) trials with values
        self.num_complete = 0  # trials that were observed at full training
        self._num_read = 0
        self._open: dict[int, Rows | None] = {}  # row of parameters by trial number, None before it has any
        self._seen_open: dict[
            int, tuple[int, list[Seen]]
        ] = {}  # by number: how many epochs were read, and what of them
        self._ended: list[Seen] = []
        self._costs: list[tuple[Rows, float]] = []

    def update(self, trials: Sequence[FrozenTrial], proposing: int) -> None:
        """Read what is new. `proposing` is the number of the trial that has no parameters yet."""
        self._open.update(dict.fromkeys(range(self._num_read, len(trials))))
        self._num_read = len(trials)
        for number in [number for number in self._open if number != proposing]:
            trial = trials[number]
            if self._open[number] is None and trial.params:
                self._open[number] = self.encoder.encode(trial.params)
            row = self._open[number]
            # Counted before they are gathered: with a thousand trials running, few have a new one at a proposal.
            num_epochs = len(trial.intermediate_values) or sum(key.startswith(OUTCOME) for key in trial.user_attrs)
            if row is not None and self._seen_open.get(number, (0, []))[0] != num_epochs:
                length = float(self.lengths.of(row[None])[0])
                seen = [
                    Seen(row, *pair) for pair in self.shown(by_epoch(trial), length, trial.user_attrs.get(FOLDS_FROM))
                ]
                self._seen_open[number] = num_epochs, seen
            if trial.state.is_finished():
                self._end(number, trial)

    def _end(self, number: int, trial: FrozenTrial) -> None:
        row, (_, seen) = self._open.pop(number), self._seen_open.pop(number, (0, []))
        if row is None:
            return
        if trial.user_attrs.get(INFEASIBLE):
            # Values before the divergence are dropped: such trainings often look best just then.
            worst = (-math.inf,) * len(self.signs)
            seen = [Seen(row, fidelity, worst) for fidelity in {*(one.fidelity for one in seen), 1.0}]
        self._ended += seen
        self._num_ended_observed += bool(seen)
        self.num_ended_in_regimes[self.lengths.regime_of(row[None])] += bool(seen)
        self.num_complete += trial.state == TrialState.COMPLETE and bool(seen)
        if trial.user_attrs.get(EPOCH_SECONDS):
            self._costs.append((row, math.log(trial.user_attrs[EPOCH_SECONDS])))

    def running(self, most: int) -> Rows:
        """Return the latest `most` running trials, (n, num_parameters)."""
        rows = [row for row in self._open.values() if row is not None]
        return np.array(rows[-most:]).reshape(-1, len(self.encoder))

    @property
    def num_observed(self) -> int:
        """Number of trials that were observed: those with an epoch, and infeasible ones."""
        return self._num_ended_observed + sum(bool(seen) for _, seen in self._seen_open.values())

    @property
    def num_ended(self) -> int:
        """Number of values of ended trials. It only grows, in the order in which trials ended."""
        return len(self._ended)

    def observations(
        self, most: int, rng: np.random.Generator, good: Callable[[Rows], Vector], first: int | None = None
    ) -> tuple[Rows, Vector, Rows]:
        """Return rows (n, num_parameters), fidelities (n,) and values (n, num_objectives).

        Of more than `most` values a third are the best, a third the latest, and the others are drawn at random.

            most   the largest n
            rng    draws the others
            good   maps values (n, num_objectives) to (n,), by which the best are chosen
            first  use only that many values of ended trials, and none of running ones; None means all
        """
        seen = (
            self._ended[:first]
            if first is not None
            else [*self._ended, *(one for _, some in self._seen_open.values() for one in some)]
        )
        values = np.array([one.values for one in seen]).reshape(len(seen), len(self.signs))
        kept = np.arange(len(seen))
        if len(seen) > most:
            best = np.argsort(-good(values), kind="stable")[: most // 3]
            kept = np.union1d(best, np.arange(len(seen) - most // 3, len(seen)))
            others = np.setdiff1d(np.arange(len(seen)), kept)
            kept = np.union1d(kept, rng.choice(others, most - len(kept), replace=False))
        fidelity = np.array([seen[index].fidelity for index in kept])
        rows = np.array([seen[index].row for index in kept]).reshape(-1, len(self.encoder))
        return rows, fidelity, values[kept]

    def costs(self, most: int) -> tuple[Rows, Vector]:
        """Return rows (n, num_parameters) and their log seconds per epoch (n,), of the latest `most` trials."""
        rows = [row for row, _ in self._costs[-most:]]
        return np.array(rows).reshape(-1, len(self.encoder)), np.array([cost for _, cost in self._costs[-most:]])

    def shown(
        self, epochs: Mapping[int, Sequence[float]], length: float, folds_from: int | None = None
    ) -> list[tuple[float, tuple[float, ...]]]:
        """Return (fidelity, values) at each rung that was reached, and at the latest epoch.

        The values are the best so far in the first objective, and the latest in the others. The latest epoch counts
        too: where many workers train, trials have values long before any of them reaches the next rung.

            epochs  the values of each epoch
            length  epochs of the whole trial; an epoch counts as its share of them
            folds_from  see FOLDS_FROM, None without folds
        """
        of_folds = {} if folds_from is None else {step: of for step, of in epochs.items() if step > folds_from}
        epochs = {step: of for step, of in epochs.items() if step not in of_folds}
        found: list[tuple[float, tuple[float, ...]]] = []
        ordered = [(epoch * self.ladder.epochs / length, of) for epoch, of in sorted(epochs.items())]
        last = ordered[-1][0] if ordered else 0
        position = 0
        best = -math.inf
        others = list[float]()
        for stop in (*(rung for rung in self.ladder.rungs if rung < last), last):
            before = position
            while position < len(ordered) and ordered[position][0] <= stop:
                value, *others = (self.signs * ordered[position][1]).tolist()
                best = max(best, value)
                position += 1
            # Not every rung has an epoch: a copy begins where its source stood, a short trial skips rungs.
            if position > before:
                found.append((self.ladder.fidelity(ordered[position - 1][0]), (best, *others)))
        if of_folds and found:
            # A mean over folds takes the place of the first one's value: it is the same quantity, with less noise.
            mean = (self.signs * of_folds[max(of_folds)]).tolist()
            found[-1] = (found[-1][0], tuple(mean))
        return found


def by_epoch(trial: FrozenTrial) -> dict[int, Sequence[float]]:
    """Return the measured values of each epoch of a trial: (1,) its metric, or (m,) with several objectives.

    Optuna's trials have no intermediate values with several objectives; user attributes hold them instead.
    """
    several = {int(key.removeprefix(OUTCOME)): of for key, of in trial.user_attrs.items() if key.startswith(OUTCOME)}
    return several or {epoch: (value,) for epoch, value in trial.intermediate_values.items()}


def score_of(trial: FrozenTrial, sign: int) -> Sequence[float] | None:
    """Return the values of a trial's best epoch by the first objective, the earlier one on ties, None without any.

    sign: +1 if higher is better, -1 if lower is. With more folds than one they are the means over those completed.
    """
    epochs = by_epoch(trial)
    last = max(epochs, default=0)
    if last > trial.user_attrs.get(FOLDS_FROM, last):
        return epochs[last]
    return max((of for _, of in sorted(epochs.items())), key=lambda of: sign * of[0], default=None)
