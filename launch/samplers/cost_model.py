"""Cost model: seconds per epoch and per trial of a configuration, learned from the trials so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from launch.samplers.encoding import Encoder, Rows
from launch.samplers.history import EPOCH_SECONDS, TRIAL_ID, Vector
from launch.samplers.lengths import Lengths
from launch.samplers.work import Kept, Work
from search_spaces.grammar import Space

MAX_TRIALS = 240  # the latest that a model is fitted on
RIDGE = 0.1  # shrinks the slopes to zero while trials are few
# Where work is known there is less to explain. In simulated searches of the space of classification-cpu (8 of 60 and
# 200 s) fine-tunings were predicted with an error of 0.24 to 0.29 in the logarithm for 2 and 0.5, and of 0.32 for 0.1.
RIDGE_BESIDE_WORK = 1.0


class CostModel:
    """Seconds per epoch as a product of one factor per parameter: a ridge regression of their logarithm.

    Costs multiply (of a backbone, an image size, frozen layers), so their logarithms add up.

        rows         (n, num_parameters), see `Encoder`
        log_seconds  (n,) the logarithm of seconds per epoch
    """

    def __init__(self, encoder: Encoder, rows: Rows, log_seconds: Vector, ridge: float = RIDGE) -> None:
        self.encoder = encoder
        self.known = len(log_seconds)
        features = encoder.features(rows)[0]
        self.middle = features.mean(axis=0) if self.known else np.zeros(features.shape[1])
        self.mean = float(log_seconds.mean()) if self.known else 0.0
        centred = features - self.middle
        inner = centred.T @ centred + ridge * np.eye(features.shape[1])
        self.slopes = np.linalg.solve(inner, centred.T @ (log_seconds - self.mean))

    def log_seconds(self, features: Rows) -> Vector:
        """Return the expected log seconds per epoch (m,) for features (m, F)."""
        return np.asarray(self.mean + (features - self.middle) @ self.slopes)

    def seconds(self, params: Mapping[str, Any]) -> float | None:
        """Return the seconds per epoch for flat parameters, or None before the first timed trial."""
        if not self.known:
            return None
        row = self.encoder.encode(params)[None]
        return math.exp(float(self.log_seconds(self.encoder.features(row)[0])[0]))


class WholeCosts:
    """Cost of whole trials, relative to the usual cost of trials of the same regime.

    Regimes compete by gain alone, and cost counts within a regime. With gain per second, probes of a few seconds would
    be tried one after the other for gains that nobody notices. It was measured in simulated searches of two regimes, a
    cheap finite one and an expensive one that was better or worse. Gain per second found 0.001 ± 0.001 less accuracy
    (16 pairs).

        model        of the cost of an epoch
        lengths      epochs of each configuration
        rows         (n, num_parameters) that `model` was fitted on
        log_seconds  (n,) that `model` was fitted on
    """

    def __init__(self, model: CostModel, lengths: Lengths, rows: Rows, log_seconds: Vector) -> None:
        self.model = model
        self.lengths = lengths
        self.usual = np.zeros(lengths.num_regimes)
        if lengths.regimes and len(rows):
            totals = log_seconds + np.log(lengths.shares(rows))
            regimes = lengths.regime_of(rows)
            means = [
                totals[regimes == one].mean() if one in regimes else totals.mean() for one in range(len(self.usual))
            ]
            self.usual = np.array(means)

    def log_seconds(self, rows: Rows, features: Rows) -> Vector:
        """Return the relative log cost (m,), up to a constant, of rows (m, num_parameters) with features (m, F)."""
        whole = self.model.log_seconds(features) + np.log(self.lengths.shares(rows))
        return np.asarray(whole - self.usual[self.lengths.regime_of(rows)])


# An epoch's overhead, as shares of its typical computation.
FLOORS = (0.03, 0.1, 0.3, 1.0, 3.0)
# A larger overhead must explain the seconds better by this much variance of their logarithm. Four probes of two
# backbones, 14 and 16 s, are explained best by an overhead of 7 s, and a head on kept features takes half a second.
WORTH_A_LARGER_FLOOR = 0.01


class TrialCosts:
    """A CostModel of a study's trials, refitted when new trials are timed.

    Without `work` the model learns seconds per epoch. With it, the model learns how much longer an epoch takes than its
    computation. That ratio is the machine's speed, and what a backbone or an optimizer costs beside its FLOPs.

        space  the search space
        work   computation known before the first trial, None where nothing is known
    """

    def __init__(self, space: Space, work: Work | None = None) -> None:
        self.encoder = Encoder(space)
        self.work = work
        self.model: CostModel | None = None
        self.kept: set[Kept] = self._kept_before()  # features in the cache: those found there, and of timed trials
        self.floor = 0.0  # an epoch's overhead, as the giga-FLOPs that take equally long

    def seconds(self, params: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> float | None:
        """Return the expected seconds per epoch for flat parameters, or None before the first timed trial."""
        found = self.of_rows(self.encoder.encode(params)[None], trials)
        return None if found is None else float(found[0])

    def of_rows(self, rows: Rows, trials: Sequence[FrozenTrial]) -> Vector | None:
        """Return the expected seconds per epoch (n,) for rows (n, num_parameters), or None before any timed trial."""
        timed = list(islice((trial for trial in reversed(trials) if EPOCH_SECONDS in trial.user_attrs), MAX_TRIALS))
        timed.reverse()
        if not timed:
            return None
        if self.model is None or self.model.known != len(timed) or len(timed) == MAX_TRIALS:
            self._fit(timed)
        assert self.model is not None
        log_seconds = self.model.log_seconds(self.encoder.features(rows)[0])
        if self.work is not None:
            kept = self.kept | self._being_kept(trials)
            log_seconds = log_seconds + np.log(self.work.of(rows, kept) + self.floor)
        return np.exp(log_seconds)

    def _kept_before(self) -> set[Kept]:
        return set() if self.work is None else set(self.work.known.kept)

    def _being_kept(self, trials: Sequence[FrozenTrial]) -> set[Kept]:
        """Return the features that running trials compute now: a trial that needs them waits instead of computing."""
        assert self.work is not None
        begun = (trial for trial in trials if trial.state == TrialState.RUNNING and TRIAL_ID in trial.user_attrs)
        running = [self.encoder.encode(trial.params) for trial in begun if EPOCH_SECONDS not in trial.user_attrs]
        return set().union(*(self.work.keeps(row) for row in running))

    def _fit(self, timed: Sequence[FrozenTrial]) -> None:
        rows = np.array([self.encoder.encode(trial.params) for trial in timed])
        log_seconds = np.log([trial.user_attrs[EPOCH_SECONDS] for trial in timed])
        if self.work is not None:
            work = np.zeros(len(rows))
            self.kept = self._kept_before()
            for number, row in enumerate(rows):
                work[number] = self.work.of(row[None], self.kept)[0]
                self.kept |= self.work.keeps(row)
            self.floor = self._floor(work, log_seconds)
            log_seconds = log_seconds - np.log(work + self.floor)
        self.model = CostModel(self.encoder, rows, log_seconds, RIDGE if self.work is None else RIDGE_BESIDE_WORK)

    def _floor(self, work: Vector, log_seconds: Vector) -> float:
        """Return an epoch's overhead in giga-FLOPs: the least that explains the seconds about as well as any."""
        assert self.work is not None
        if not (work > 0).any():
            # All features were there: seconds tell nothing of the machine's speed, which is assumed to be usual.
            return float(np.exp(log_seconds.mean())) * self.work.known.gflops_per_s
        typical = max(float(np.median(work[work > 0])), 1e-9)
        floors = [share * typical for share in FLOORS]
        unexplained = [float(np.var(log_seconds - np.log(work + one))) for one in floors]
        enough = min(unexplained) + WORTH_A_LARGER_FLOOR
        return next(one for one, left in zip(floors, unexplained, strict=True) if left <= enough)
