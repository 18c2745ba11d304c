"""What an epoch of a configuration costs, learned from the trials so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from launch.engine.history import EPOCH_SECONDS, Vector
from launch.engine.vectors import Rows, Vectors
from search_spaces.grammar import Space

MAX_TRIALS = 240  # the latest that a model is fitted on
RIDGE = 0.1  # pulls the slopes to nothing while trials are few


class CostModel:
    """Seconds per epoch as a product of what each parameter contributes: a ridge regression of their logarithm.

    Costs multiply (of a backbone, an image size, frozen layers), so their logarithms add up.
    rows: (n, num_parameters), see `Vectors`; log_seconds: (n,).
    """

    def __init__(self, vectors: Vectors, rows: Rows, log_seconds: Vector) -> None:
        self.vectors, self.known = vectors, len(log_seconds)
        features = vectors.features(rows)[0]
        self.middle = features.mean(axis=0) if self.known else np.zeros(features.shape[1])
        self.mean = float(log_seconds.mean()) if self.known else 0.0
        centred = features - self.middle
        inner = centred.T @ centred + RIDGE * np.eye(features.shape[1])
        self.slopes = np.linalg.solve(inner, centred.T @ (log_seconds - self.mean))

    def log_seconds(self, features: Rows) -> Vector:
        """(m,) expected of features (m, F)."""
        return np.asarray(self.mean + (features - self.middle) @ self.slopes)

    def seconds(self, params: Mapping[str, Any]) -> float | None:
        """Of one configuration, by its flat parameters; None while no trial has told."""
        if not self.known:
            return None
        row = self.vectors.encode(params)[None]
        return math.exp(float(self.log_seconds(self.vectors.features(row)[0])[0]))


class TrialCosts:
    """A CostModel of a study's trials, fitted anew when there are more of them."""

    def __init__(self, space: Space) -> None:
        self.vectors = Vectors(space)
        self.model: CostModel | None = None

    def seconds(self, params: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> float | None:
        """Per epoch, expected of flat parameters; None while no trial has told."""
        timed = list(islice((trial for trial in reversed(trials) if EPOCH_SECONDS in trial.user_attrs), MAX_TRIALS))
        timed.reverse()
        if not timed:
            return None
        if self.model is None or self.model.known != len(timed) or len(timed) == MAX_TRIALS:
            rows = np.array([self.vectors.encode(trial.params) for trial in timed])
            log_seconds = np.log([trial.user_attrs[EPOCH_SECONDS] for trial in timed])
            self.model = CostModel(self.vectors, rows, log_seconds)
        return self.model.seconds(params)
