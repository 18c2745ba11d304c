"""What a search can still gain, by the sampler's own model: when to stop.

The gain is bounded as in Makarova et al. 2022 ("Automatic Termination for Hyperparameter Optimization"): an upper bound
on the best score anywhere in the space, minus a lower bound on the incumbent's. A search that can gain less than the
noise of its validation split searches for nothing. The width of the bounds is that of Optuna's terminator.

The sampler's model sees ranks. Here the same Gaussian process sees scores, as the answer has the metric's unit.
"""

from __future__ import annotations

import math

import numpy as np

from launch.samplers.encoding import Rows
from launch.samplers.gp import GaussianProcess, Observations, Vector, fit
from launch.samplers.history import History

LEAST_COMPLETE = 8  # trials at full training, before their spread tells anything
LEAST_OBSERVED = 20  # trials at any rung
MOST_OBSERVED = 160
DRAWS = 1500
NEIGHBOURS = 40  # of each of the ten best
FAR_BELOW = 2.0  # spreads below the median: what is worse says no more about the best than that
FULL = 1 - 1e-9  # fidelity
CONFIDENCE = 0.1
WIDTH = 0.2  # Optuna's factor on the width of Srinivas et al. 2010, which is far too wide in practice


def still_to_gain(history: History, seed: int, highest: float = math.inf) -> float | None:
    """Return a bound on what the best score can still gain, in the metric's unit. None where too little is known.

        history  of a search with one objective
        seed     of the random candidates
        highest  that the metric can be, higher is better

    Adds nothing to the history, and draws from no stream of the search.
    """
    encoder = history.encoder
    if not len(encoder) or history.num_complete < LEAST_COMPLETE or history.num_observed < LEAST_OBSERVED:
        return None
    rng = np.random.default_rng([seed, history.num_ended])
    rows, fidelity, values = history.observations(MOST_OBSERVED, rng, lambda column: column[:, 0], history.num_ended)
    value = values[:, 0]
    full = fidelity >= FULL
    known = value[full & np.isfinite(value)]
    if len(known) < LEAST_COMPLETE:
        return None
    # Scores in units of the better half's spread. Bad ones are drawn near, so that they do not set the scale.
    middle = float(np.median(known))
    spread = float(np.sqrt(((known[known >= middle] - middle) ** 2).mean()))
    if spread < 1e-12:
        return 0.0
    scaled = np.maximum((value - middle) / spread, -FAR_BELOW)
    features, owner = encoder.features(rows)
    observed = Observations(features, owner, len(encoder), fidelity, scaled)
    model = GaussianProcess(observed, fit(observed))
    width = _width(len(encoder), history.num_observed)
    # The incumbent's lower bound, over all that were trained to the end.
    mean, deviation = model.predict(features[full])
    lower = float((mean - width * deviation).max())
    # The upper bound anywhere: among random configurations and around the best.
    best = rows[np.argsort(-scaled, kind="stable")[:10]]
    rate = min(0.5, 2.5 / len(encoder))
    near = [encoder.perturb(np.repeat(best, NEIGHBOURS, axis=0), rng, scale, rate) for scale in (0.15, 0.03)]
    pool = np.concatenate([encoder.sample(rng, DRAWS), *near, rows])
    upper = _upper(model, encoder.features(pool)[0], width)
    first = np.argsort(-upper, kind="stable")[:10]
    again = encoder.perturb(np.repeat(pool[first], NEIGHBOURS, axis=0), rng, 0.08, rate)
    highest_there = max(float(upper.max()), float(_upper(model, encoder.features(again)[0], width).max()))
    gain = min(highest_there, (highest - middle) / spread) - lower
    return max(gain, 0.0) * spread


def _upper(model: GaussianProcess, features: Rows, width: float) -> Vector:
    mean, deviation = model.predict(features)
    return np.asarray(mean + width * deviation)


def _width(num_parameters: int, num_trials: int) -> float:
    """Return how many deviations a bound is wide (Srinivas et al. 2010, theorem 1, as Optuna scales it)."""
    return math.sqrt(WIDTH * 2 * math.log(num_parameters * num_trials**2 * math.pi**2 / (6 * CONFIDENCE)))
