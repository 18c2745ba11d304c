"""A Gaussian process over configurations and fidelities: what is expected of a configuration at full training.

One model reads every rung at once. Two observations are similar if their configurations are (Matérn 5/2, one length
scale per parameter) and their fidelities are. A linear term carries what more epochs give to all configurations.

Sources: the product kernel is that of Swersky et al. 2013 (multi-task Bayesian optimisation), with a continuous
fidelity (Kandasamy et al. 2017). The prior of the length scales is that of Hvarfner et al. 2024 (arXiv:2402.02229),
which keeps models simple in many dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr, ndtri

from launch.samplers.encoding import Rows

Vector = NDArray[np.float64]

ROOT5 = math.sqrt(5)
LINEAR = CONSTANT = 1.0  # prior variances of the trend, for values of unit variance
MAX_EVALUATIONS = 14
SPREAD = 0.3


@dataclass(frozen=True)
class Observations:
    """Training data of the model.

    features        (n, F), see `Encoder.features`
    owner           (F,) the parameter of each column
    num_parameters  of the space
    fidelity        (n,) in (0, 1]
    value           (n,) higher is better, about unit variance
    """

    features: Rows
    owner: NDArray[np.int_]
    num_parameters: int
    fidelity: Vector
    value: Vector


def fit(observed: Observations) -> Vector:
    """Return the MAP hyperparameters (see Prior). The start is fixed, so equal observations give equal results."""
    prior = Prior(observed.num_parameters)
    best = minimize(
        _negative_log_posterior,
        prior.mean,
        args=(observed, _squares(observed), prior),
        jac=True,
        method="L-BFGS-B",
        bounds=prior.bounds,
        options={"maxfun": MAX_EVALUATIONS, "maxiter": MAX_EVALUATIONS},
    )
    return np.asarray(best.x)


def perturb_hyperparameters(hyper: Vector, num_parameters: int, rng: np.random.Generator) -> Vector:
    """Sample length scales near the MAP estimate, a cheap stand-in for integrating over them (Snoek et al. 2012).

    The data does not determine them, and a search that always uses the MAP estimate stalls.
    """
    prior = Prior(num_parameters)
    doubt = SPREAD * prior.deviation * rng.normal(size=len(hyper))
    doubt[-1] = 0.0  # the noise
    return np.asarray(np.clip(hyper + doubt, *np.array(prior.bounds).T))


class GaussianProcess:
    """A Gaussian process with given hyperparameters, conditioned on observations."""

    def __init__(self, observed: Observations, hyper: Vector) -> None:
        self.observed = observed
        self.hyper = _Hyper(hyper)
        self._condition(observed.features, observed.fidelity, observed.value)

    def predict(self, features: Rows, fidelity: float = 1.0) -> tuple[Vector, Vector]:
        """Return the mean and standard deviation, (m,) each, of configurations at a fidelity, without noise."""
        there = np.full(len(features), fidelity)
        cross = self.hyper.kernel(self._scaled(features), there, self._seen, self._fidelity)  # (m, n)
        mean = cross @ self._alpha
        solved = solve_triangular(self._cholesky, cross.T, lower=True, check_finite=False)
        own = self.hyper.amplitude + LINEAR * fidelity**2 + CONSTANT
        return mean, np.sqrt(np.maximum(own - (solved**2).sum(axis=0), 1e-10))

    def believe(self, features: Rows, fidelity: Vector) -> None:
        """Condition on running trials with their expected values as results, so that the next proposal goes elsewhere.

        Source: kriging believer (Ginsbourger et al. 2010).
        """
        if len(features):
            cross = self.hyper.kernel(self._scaled(features), fidelity, self._seen, self._fidelity)
            expected = cross @ self._alpha
            self._condition(
                np.concatenate([self.observed.features, features]),
                np.concatenate([self.observed.fidelity, fidelity]),
                np.concatenate([self.observed.value, expected]),
            )

    def _condition(self, features: Rows, fidelity: Vector, value: Vector) -> None:
        self._seen = self._scaled(features)
        self._fidelity = fidelity
        covariance = self.hyper.kernel(self._seen, fidelity, self._seen, fidelity)
        covariance[np.diag_indices_from(covariance)] += self.hyper.noise
        self._cholesky = _cholesky(covariance)
        self._alpha = cho_solve((self._cholesky, True), value, check_finite=False)

    def _scaled(self, features: Rows) -> Rows:
        return features / self.hyper.scales[self.observed.owner]


def expected_improvement(mean: Vector, deviation: Vector, best: float) -> Vector:
    """Return the log expected improvement over `best`, higher is better (on the logarithm: Ament et al. 2023)."""
    z = (mean - best) / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    gain = density + z * ndtr(z)
    with np.errstate(divide="ignore"):
        tail = -0.5 * z**2 - math.log(math.sqrt(2 * math.pi)) - 2 * np.log(np.maximum(-z, 1.0))
        return np.asarray(np.log(deviation) + np.where(z > -5, np.log(np.maximum(gain, 1e-300)), tail))


def normal_scores(values: Vector) -> Vector:
    """Return the values as normal quantiles of their ranks, with equal scores for ties.

    Outliers and scales no longer matter. Source: the Gaussian copula of Salinas et al. 2020.
    """
    order = np.sort(values)
    rank = (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right")) / 2
    return np.asarray(ndtri(rank / len(values) * (1 - 1 / len(values)) + 0.5 / len(values)))


class Prior:
    """Independent normal priors of the hyperparameters, in the order of their vector.

    They are over log length scales, log fidelity scale, logit of the variance that all fidelities share, log amplitude
    and log noise.
    """

    def __init__(self, num_parameters: int) -> None:
        scale = math.log(0.6) + 0.5 * math.log(max(num_parameters, 1)) * 0.8
        self.mean = np.array([scale] * num_parameters + [math.log(0.5), 0.0, 0.0, math.log(0.05)])
        self.deviation = np.array([0.9] * num_parameters + [0.7, 1.0, 0.7, 1.5])
        low = [math.log(0.03)] * num_parameters + [math.log(0.05), -4.0, math.log(0.05), math.log(1e-4)]
        high = [math.log(100.0)] * num_parameters + [math.log(10.0), 4.0, math.log(10.0), math.log(1.0)]
        self.bounds = list(zip(low, high, strict=True))


class _Hyper:
    def __init__(self, raw: Vector) -> None:
        self.scales = np.exp(raw[:-4])
        self.fidelity_scale = math.exp(raw[-4])
        self.shared = 1 / (1 + math.exp(-raw[-3]))  # of the variance: what all fidelities have in common
        self.amplitude = math.exp(raw[-2])
        self.noise = math.exp(raw[-1])

    def kernel(self, a: Rows, fidelity_a: Vector, b: Rows, fidelity_b: Vector) -> Rows:
        squared = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0)
        apart = np.abs(fidelity_a[:, None] - fidelity_b[None])
        alike = self.shared + (1 - self.shared) * np.exp(-apart / self.fidelity_scale)
        return self.amplitude * _matern(squared)[0] * alike + _trend(fidelity_a, fidelity_b)


def _matern(squared: Rows) -> tuple[Rows, Rows]:
    """Matérn 5/2 of a squared distance, and its derivative by it."""
    r = ROOT5 * np.sqrt(squared)
    fall = np.exp(-r)
    return (1 + r + r**2 / 3) * fall, -(5 / 6) * (1 + r) * fall


def _trend(fidelity_a: Vector, fidelity_b: Vector) -> Rows:
    return CONSTANT + LINEAR * fidelity_a[:, None] * fidelity_b[None]


def _cholesky(covariance: Rows) -> Rows:
    """Return the Cholesky factor, with more noise where nearly equal rows make the matrix numerically singular."""
    for noise in (0.0, 1e-6, 1e-4, 1e-2):
        try:
            return np.asarray(np.linalg.cholesky(covariance + noise * np.eye(len(covariance))), dtype=np.float64)
        except np.linalg.LinAlgError:
            continue
    raise AssertionError("a covariance with noise on its diagonal is positive definite")


def _squares(observed: Observations) -> Rows:
    """Return the squared distances in each parameter, (num_parameters, n * n)."""
    total = len(observed.value)
    by_parameter = np.zeros((observed.num_parameters, total, total))
    for column, parameter in enumerate(observed.owner):
        values = observed.features[:, column]
        by_parameter[parameter] += (values[:, None] - values[None]) ** 2
    return by_parameter.reshape(observed.num_parameters, -1)


def _negative_log_posterior(raw: Vector, observed: Observations, squares: Rows, prior: Prior) -> tuple[float, Vector]:
    hyper = _Hyper(raw)
    total = len(observed.value)
    weights = 1 / hyper.scales**2
    matern, slope = _matern((weights @ squares).reshape(total, total))
    fidelity = observed.fidelity
    apart = np.abs(fidelity[:, None] - fidelity[None])
    close = np.exp(-apart / hyper.fidelity_scale)
    alike = hyper.shared + (1 - hyper.shared) * close
    signal = hyper.amplitude * matern * alike
    covariance = signal + _trend(fidelity, fidelity)
    covariance[np.diag_indices(total)] += hyper.noise + 1e-8
    try:
        cholesky = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(raw)
    inverse = cho_solve((cholesky, True), np.eye(total), check_finite=False)
    alpha = inverse @ observed.value
    pull = (raw - prior.mean) / prior.deviation
    loss = 0.5 * observed.value @ alpha + np.log(np.diag(cholesky)).sum() + 0.5 * pull @ pull
    outer = 0.5 * (inverse - np.outer(alpha, alpha))  # d loss = sum(outer * dK)
    by_square = outer * hyper.amplitude * alike * slope
    grad = pull / prior.deviation
    grad[:-4] += (squares @ by_square.ravel()) * (-2 * weights)
    scaled = outer * hyper.amplitude * matern
    grad[-4] += (scaled * (1 - hyper.shared) * close * apart).sum() / hyper.fidelity_scale
    grad[-3] += (scaled * (1 - close)).sum() * hyper.shared * (1 - hyper.shared)
    grad[-2] += (outer * signal).sum()
    grad[-1] += np.trace(outer) * hyper.noise
    return float(loss), grad
