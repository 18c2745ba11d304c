"""The Gaussian process over configurations and fidelities, on functions whose values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import check_grad

from launch.samplers.encoding import Rows
from launch.samplers.gp import (
    GaussianProcess,
    Observations,
    Prior,
    Vector,
    _negative_log_posterior,
    _squares,
    expected_improvement,
    fit,
    normal_scores,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def points(num: int, num_parameters: int = 2, seed: int = 0) -> Rows:
    return rng(seed).random((num, num_parameters))


def bowl(rows: Rows) -> Vector:
    """Best, 1, at 0.3 in every coordinate."""
    return np.asarray(1 - 4 * ((rows - 0.3) ** 2).sum(axis=1))


def observations(rows: Rows, value: Vector, fidelity: Vector | float = 1.0) -> Observations:
    there = np.broadcast_to(np.asarray(fidelity, dtype=np.float64), (len(rows),)).copy()
    return Observations(rows, np.arange(rows.shape[1]), rows.shape[1], there, np.asarray(value, dtype=np.float64))


def model(rows: Rows, value: Vector, fidelity: Vector | float = 1.0) -> GaussianProcess:
    observed = observations(rows, value, fidelity)
    return GaussianProcess(observed, fit(observed))


def rank_correlation(a: Vector, b: Vector) -> float:
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_is_that_of_the_posterior(seed: int) -> None:
    rows = points(30, 3, seed)
    generator = rng(seed)
    observed = observations(rows, normal_scores(bowl(rows)), generator.choice([0.0, 0.5, 1.0], 30))
    prior, squares = Prior(3), _squares(observed)
    raw = prior.mean + 0.5 * generator.normal(size=7)

    def loss(at: Vector) -> float:
        return _negative_log_posterior(at, observed, squares, prior)[0]

    def gradient(at: Vector) -> Vector:
        return _negative_log_posterior(at, observed, squares, prior)[1]

    size = float(np.linalg.norm(gradient(raw)))
    assert size > 0.1
    assert check_grad(loss, gradient, raw, epsilon=1e-6) < 1e-4 * size


def test_a_choice_of_several_columns_has_one_length_scale_and_its_gradient() -> None:
    choice = rng().integers(0, 3, 25)
    rows = np.concatenate([(choice[:, None] == np.arange(3)) / math.sqrt(2), points(25, 1)], axis=1)
    observed = Observations(rows, np.array([0, 0, 0, 1]), 2, np.ones(25), normal_scores(choice + rows[:, 3]))
    prior = Prior(2)
    squares = _squares(observed)
    assert squares.shape == (2, 25 * 25)
    raw = prior.mean + 0.3
    found = _negative_log_posterior(raw, observed, squares, prior)[1]
    steps = 1e-6 * np.eye(len(raw))
    expected = [
        (
            _negative_log_posterior(raw + step, observed, squares, prior)[0]
            - _negative_log_posterior(raw - step, observed, squares, prior)[0]
        )
        / 2e-6
        for step in steps
    ]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_fitted_length_scales_fit_better_than_where_the_search_began() -> None:
    rows = points(60, 3)
    observed = observations(rows, normal_scores(bowl(rows[:, :1])))  # one parameter matters, two do not
    fitted = GaussianProcess(observed, fit(observed)).hyper
    assert fitted.scales[0] < 0.5 * fitted.scales[1:].min()


def test_a_smooth_function_is_predicted_between_its_observations() -> None:
    seen = points(60)
    new = points(200, seed=1)
    mean, deviation = model(seen, bowl(seen)).predict(new)
    assert np.abs(mean - bowl(new)).max() < 0.15
    assert np.sqrt(np.mean((mean - bowl(new)) ** 2)) < 0.05
    assert (deviation > 0).all()


def test_an_observation_is_nearly_given_back_and_far_from_all_of_them_nothing_is_sure() -> None:
    seen = 0.3 * points(30)
    fitted = model(seen, bowl(seen))
    mean, near = fitted.predict(seen)
    assert np.abs(mean - bowl(seen)).max() < 0.1
    far = fitted.predict(np.array([[1.0, 1.0]]))[1]
    assert far[0] > 2 * near.max()


def test_values_at_a_low_fidelity_rank_configurations_at_full_fidelity() -> None:
    rows = points(60)
    new = points(200, seed=1)
    at_full = np.arange(60) < 6
    fidelity = np.where(at_full, 1.0, 0.2)
    value = bowl(rows) - np.where(at_full, 0.0, 1.5)  # early in training everything is worse by the same
    mean, _ = model(rows, value, fidelity).predict(new)
    alone, _ = model(rows[at_full], value[at_full]).predict(new)
    assert rank_correlation(mean, bowl(new)) > 0.95
    assert rank_correlation(mean, bowl(new)) > rank_correlation(alone, bowl(new))


def test_what_more_epochs_give_to_all_is_expected_of_each() -> None:
    rows = points(60)
    fidelity = np.where(np.arange(60) < 20, 1.0, 0.2)
    value = bowl(rows) + 1.5 * fidelity
    fitted = model(rows, value, fidelity)
    new = points(100, seed=1)
    rise = fitted.predict(new, 1.0)[0] - fitted.predict(new, 0.2)[0]
    assert rise.mean() == pytest.approx(1.2, abs=0.2)


def test_low_fidelities_that_say_nothing_do_not_drown_the_full_ones() -> None:
    rows = points(80)
    new = points(200, seed=1)
    at_full = np.arange(80) < 30
    value = np.where(at_full, bowl(rows), rng(5).normal(size=80))
    mean, _ = model(rows, value, np.where(at_full, 1.0, 0.1)).predict(new)
    assert rank_correlation(mean, bowl(new)) > 0.6


def test_believing_a_running_trial_lowers_the_deviation_near_it_and_not_far_from_it() -> None:
    seen = points(20)
    fitted = model(seen, bowl(seen))
    places = np.array([[0.95, 0.05], [0.05, 0.95]])
    mean, before = fitted.predict(places)
    fitted.believe(places[:1], np.ones(1))
    mean_after, after = fitted.predict(places)
    assert after[0] < 0.7 * before[0]
    assert after[1] == pytest.approx(before[1], rel=0.1)
    assert mean_after == pytest.approx(mean, abs=0.05)  # what is believed is what was expected


def test_believing_nothing_changes_nothing() -> None:
    seen = points(20)
    new = points(5, seed=1)
    fitted = model(seen, bowl(seen))
    before = fitted.predict(new)
    fitted.believe(np.empty((0, 2)), np.ones(0))
    assert np.array_equal(fitted.predict(new), before)


@pytest.mark.parametrize("num", [20, 400])
def test_the_same_observations_give_the_same_model(num: int) -> None:
    rows = points(num)
    new = points(20, seed=1)
    other = points(50, seed=2)
    first = model(rows, bowl(rows)).predict(new)
    model(other, -bowl(other))
    assert np.array_equal(model(rows, bowl(rows)).predict(new), first)


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        (np.full((12, 2), 0.5), np.arange(12.0)),  # one configuration again and again
        (points(12), np.zeros(12)),  # all alike
        (points(1), np.zeros(1)),
    ],
)
def test_degenerate_observations_still_give_finite_predictions(rows: Rows, value: Vector) -> None:
    mean, deviation = model(rows, normal_scores(value)).predict(points(10, seed=1))
    assert np.isfinite(mean).all()
    assert (np.isfinite(deviation) & (deviation > 0)).all()


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-1.0, 0.5), (0.7, 0.2), (0.5, 1e-3), (-2.0, 1.0)])
def test_expected_improvement_is_what_chance_gives(mean: float, deviation: float) -> None:
    best = 0.4
    draws = rng().normal(mean, deviation, 2_000_000)
    expected = np.maximum(draws - best, 0).mean()
    found = math.exp(expected_improvement(np.array([mean]), np.array([deviation]), best)[0])
    assert found == pytest.approx(expected, rel=0.03, abs=1e-12)


def test_expected_improvement_far_below_the_best_stays_finite_and_still_tells_better_from_worse() -> None:
    mean = -np.array([3.0, 4.9, 4.99, 5.01, 5.1, 6.0, 10.0, 30.0, 100.0, 1000.0])
    gain = expected_improvement(mean, np.ones(len(mean)), 0.0)
    assert np.isfinite(gain).all()
    assert (np.diff(gain) < 0).all()


def test_expected_improvement_far_below_the_best_is_that_of_the_known_series() -> None:
    for z in (6.0, 10.0, 37.0):
        # Mills' ratio: EI(z) = density(z) / z^2 (1 - 3 / z^2 + 15 / z^4 - ...)
        expected = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - 2 * math.log(z) + math.log(1 - 3 / z**2 + 15 / z**4)
        assert expected_improvement(np.array([-z]), np.ones(1), 0.0)[0] == pytest.approx(expected, abs=0.12)


def test_expected_improvement_does_not_jump_where_the_series_takes_over() -> None:
    gain = expected_improvement(np.linspace(-5.2, -4.8, 401), np.ones(401), 0.0)
    slopes = np.diff(gain)
    assert slopes.max() < 2 * np.median(slopes)


def test_scores_follow_the_ranks_and_have_about_unit_variance() -> None:
    value = np.exp(5 * points(200, 1)[:, 0])
    scores = normal_scores(value)
    assert np.array_equal(scores.argsort(), value.argsort())
    assert scores.mean() == pytest.approx(0, abs=0.02)
    assert scores.std() == pytest.approx(1, abs=0.05)


def test_equal_values_have_equal_scores_and_the_middle_is_zero() -> None:
    scores = normal_scores(np.array([1.0, 2.0, 2.0, 2.0, 3.0]))
    assert scores[1] == scores[2] == scores[3] == pytest.approx(0)
    assert scores[0] == pytest.approx(-scores[4])
    assert normal_scores(np.array([7.0, 7.0])) == pytest.approx([0, 0])
    assert normal_scores(np.array([7.0])) == pytest.approx([0])


def test_minus_infinity_is_the_worst_and_has_a_finite_score() -> None:
    scores = normal_scores(np.array([0.1, -math.inf, 0.9, -math.inf]))
    assert np.isfinite(scores).all()
    assert scores[1] == scores[3] < scores[0] < scores[2]
    assert np.isfinite(normal_scores(np.full(3, -math.inf))).all()


def test_an_outlier_does_not_matter() -> None:
    assert np.array_equal(normal_scores(np.array([1.0, 2.0, 3.0])), normal_scores(np.array([1.0, 2.0, 1e19])))


def test_a_hundred_copies_of_one_row_are_still_conditioned_on() -> None:
    rows = np.full((100, 3), 0.5)
    observed = observations(rows, np.linspace(-1, 1, 100), np.ones(100))
    noiseless = Prior(3).mean.copy()
    noiseless[-1] = -40.0
    mean, deviation = GaussianProcess(observed, noiseless).predict(rows[:1])
    assert abs(mean[0]) < 0.1
    assert np.isfinite(deviation).all()
