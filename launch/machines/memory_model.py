"""Memory model: what a configuration's training takes, with an upper bound to pack trials by.

The model is a Bayesian linear regression of the logarithm of the memory above a constant part. The logarithm is taken
because a backbone, a batch size or an image size multiply the memory. The priors say which parameters can change memory
at all. So a configuration with an unmeasured backbone has a wide bound. One that differs from a measured configuration
in its learning rate has a narrow one.

Source: Bishop 2006, Pattern Recognition and Machine Learning, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from launch.samplers.encoding import Parameter, Rows, parameters
from launch.samplers.history import Vector
from search_spaces.grammar import Float, Int, Pick, Space

MAX_TRIALS = 120  # the latest that a model is fitted on
CAREFUL = 0.95  # the quantile that counts as an upper bound
NEGLIGIBLE = 6.0  # in log evidence below the best fit
# How much a parameter may change memory, as standard deviations of its logarithm.
ANY_CHOICE = 0.7  # another arm: a backbone, a head, an optimizer
PER_DOUBLING = 0.8  # of a whole number: twice the batch size doubles memory, twice the image size quadruples it
RATE = 0.05  # a real number is a rate or a probability
CONSTANT = 10.0  # nothing is known of the scale
NOISES = (0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
USUAL_NOISE = 0.08
CONSTANT_PARTS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # of the smallest that was measured: Python and its libraries


@dataclass(frozen=True)
class Estimate:
    """Predicted memory of one configuration in MB: the median, and the upper bound that 95 of 100 stay under."""

    expected_mb: float
    upper_mb: float


@dataclass(frozen=True)
class _Fit:
    """The posterior for one choice of the constant part and the noise.

        log_evidence  of the measured values
        constant_mb   memory that does not depend on the configuration
        noise         standard deviation of the logarithms
        middle        mean of the logarithms
        chol          (n, n) Cholesky factor of the covariance
        weights       (n,) the covariance's inverse times the centred logarithms

    The covariance of two configurations is the dot product of their features, plus the noise on the diagonal.
    """

    log_evidence: float
    constant_mb: float
    noise: float
    middle: float
    chol: Rows
    weights: Vector


class MemoryModel:
    """A mixture of all plausible fits.

    The best fit alone would be too sure: three equal values do not show how much of them is constant.

        space   the search space
        params  flat parameters of each trial
        mb      (n,) measured memory of each trial

    Raises ValueError without any measured trial.
    """

    def __init__(self, space: Space, params: Sequence[Mapping[str, Any]], mb: Sequence[float]) -> None:
        if not params:
            raise ValueError("a model of memory needs a measured trial")
        self.parameters = parameters(space)
        self.features = np.array([_features(self.parameters, one) for one in params[-MAX_TRIALS:]])  # (n, F)
        values = np.asarray(mb[-MAX_TRIALS:], dtype=float)
        constants = [part * float(values.min()) for part in CONSTANT_PARTS]
        fits = [self._fit(values, constant_mb, noise) for constant_mb in constants for noise in NOISES]
        best = max(fit.log_evidence for fit in fits)
        self.fits = [fit for fit in fits if fit.log_evidence > best - NEGLIGIBLE]
        chances = np.exp([fit.log_evidence - best for fit in self.fits])
        self.chances = chances / chances.sum()  # (fits,)

    def estimate(self, params: Mapping[str, Any]) -> Estimate:
        row = np.array(_features(self.parameters, params))
        across = self.features @ row  # (n,) covariance with what was measured
        means = []
        spreads = []
        for fit in self.fits:
            explained = np.linalg.solve(fit.chol, across)
            means.append(fit.middle + float(across @ fit.weights))
            spreads.append(math.sqrt(max(0.0, float(row @ row - explained @ explained)) + fit.noise**2))
        return Estimate(self._quantile(0.5, means, spreads), self._quantile(CAREFUL, means, spreads))

    def _quantile(self, share: float, means: Sequence[float], spreads: Sequence[float]) -> float:
        """Return the MB below which that share of the mixture of all fits lies."""
        constants = np.array([fit.constant_mb for fit in self.fits])

        def above(mb: float) -> float:
            z = (np.log(np.maximum(mb - constants, 1e-9)) - np.array(means)) / np.array(spreads)
            return float(self.chances @ ndtr(z)) - share

        ends = [constants + np.exp(np.array(means) + side * 4 * np.array(spreads)) for side in (-1, 1)]
        return float(brentq(above, float(ends[0].min()), float(ends[1].max()), rtol=1e-4))

    def _fit(self, values: Vector, constant_mb: float, noise: float) -> _Fit:
        logs = np.log(values - constant_mb)
        middle = float(logs.mean())
        chol = np.linalg.cholesky(self.features @ self.features.T + noise**2 * np.eye(len(values)))
        half = np.linalg.solve(chol, logs - middle)
        log_evidence = -0.5 * float(half @ half) - float(np.log(np.diag(chol)).sum())
        # The density of the values themselves, not of their logarithms. The first value only sets the scale.
        log_evidence -= float(logs.sum()) - middle
        log_evidence -= 0.5 * math.log(noise / USUAL_NOISE) ** 2
        return _Fit(log_evidence, constant_mb, noise, middle, chol, np.linalg.solve(chol.T, half))


def _features(found: Sequence[Parameter], params: Mapping[str, Any]) -> list[float]:
    """Return each column times its prior's standard deviation, (F,).

    The covariance of two configurations is then a dot product. A parameter that does not exist, because another arm was
    drawn, adds nothing.
    """
    row = [CONSTANT]
    for parameter in found:
        range_ = parameter.range
        value = params.get(parameter.name)
        amounts = _amounts(range_)
        if isinstance(range_, Pick) and not amounts:
            row += [ANY_CHOICE * (value == choice and type(value) is type(choice)) for choice in range_.choices]
        elif value is None:
            row.append(0.0)
        elif isinstance(range_, Float):
            row.append(RATE * (value - range_.low) / max(range_.high - range_.low, 1e-9))
        else:
            row.append(PER_DOUBLING * (math.log2(max(value, 1e-9)) - sum(map(math.log2, amounts)) / 2))
    return row


def _amounts(range_: Float | Int | Pick) -> list[float]:
    """Return the smallest and largest value of a range, or of a Pick of positive numbers such as batch sizes.

    Empty for any other Pick.
    """
    if not isinstance(range_, Pick):
        return [max(range_.low, 1e-9), max(range_.high, 1e-9)]
    found = [float(one) for one in range_.choices if isinstance(one, (int, float)) and not isinstance(one, bool)]
    return [min(found), max(found)] if len(found) == len(range_.choices) and min(found) > 0 else []
