"""What makes other methods faster in the comparison changes none of their answers."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers._tpe import _truncnorm
from sklearn.ensemble import GradientBoostingRegressor

from benchmarks import faster_syne, faster_tpe

needs_syne_tune = pytest.mark.skipif(
    importlib.util.find_spec("syne_tune") is None, reason="Syne Tune is not installed: pip install -e '.[benchmarks]'"
)


@pytest.mark.parametrize("samples", [3, 40, 150])
@pytest.mark.parametrize("quantile", [0.17, 0.5, 0.83])
@pytest.mark.parametrize("tied", [False, True])
def test_boosted_quantiles_are_those_of_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, samples: int, quantile: float, tied: bool
) -> None:
    random = np.random.RandomState(samples)
    inputs, asked = random.rand(samples, 6), random.rand(200, 6)
    inputs[:, 1] = inputs[:, 1].round()
    targets = random.rand(samples).round(1 if tied else 9)

    def answers() -> tuple[np.ndarray, float]:
        np.random.seed(1)
        model = GradientBoostingRegressor(loss="quantile", alpha=quantile).fit(inputs, targets)
        return model.predict(asked), np.random.rand()  # as many random numbers were drawn, too

    monkeypatch.setattr(GradientBoostingRegressor, "_fit_stages", faster_syne.checked_fit_stages)
    expected, drawn = answers()
    monkeypatch.setattr(GradientBoostingRegressor, "_fit_stages", faster_syne.fit_stages)
    got, drawn_too = answers()
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(got, expected)
    assert drawn_too == drawn


def test_other_losses_stay_with_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = np.random.RandomState(0).rand(50, 3)
    targets = np.random.RandomState(1).rand(50)
    expected = GradientBoostingRegressor(random_state=0).fit(inputs, targets).predict(inputs)
    monkeypatch.setattr(GradientBoostingRegressor, "_fit_stages", faster_syne.fit_stages)
    np.testing.assert_array_equal(
        GradientBoostingRegressor(random_state=0).fit(inputs, targets).predict(inputs), expected
    )


@needs_syne_tune
@pytest.mark.parametrize("searcher", ["bore", "cqr"])
def test_a_searcher_proposes_what_it_proposed(monkeypatch: pytest.MonkeyPatch, searcher: str) -> None:
    space_of = importlib.import_module("syne_tune.config_space")
    space = {
        "width": space_of.uniform(0, 1.3),
        "lr": space_of.loguniform(1e-4, 1),
        "batch_size": space_of.lograndint(16, 512),
        "layers": space_of.randint(1, 5),
        "optimizer": space_of.choice(["sgd", "adam"]),
    }
    bore = importlib.import_module("syne_tune.optimizer.schedulers.searchers.bore.bore").Bore
    conformal = "syne_tune.optimizer.schedulers.searchers.conformal"
    cqr = importlib.import_module(f"{conformal}.conformal_quantile_regression_searcher").ConformalQuantileRegression
    surrogate = importlib.import_module(f"{conformal}.surrogate.surrogate_model").SurrogateModel
    make: Callable[..., Any] = {"bore": bore, "cqr": cqr}[searcher]

    def proposals() -> list[dict[str, Any]]:
        np.random.seed(1)
        method = make(space, random_seed=2)
        proposed = []
        for trial in range(14):
            config = dict(method.suggest())
            method.on_trial_complete(trial, config, config["width"] + config["layers"] * abs(np.log(config["lr"])))
            proposed.append(config)
        return proposed

    for owner, name in ((bore, "suggest"), (surrogate, "_update_candidates")):  # whatever an earlier test installed
        monkeypatch.setattr(owner, name, inspect.unwrap(getattr(owner, name)))
    monkeypatch.setattr(GradientBoostingRegressor, "_fit_stages", faster_syne.checked_fit_stages)
    expected = proposals()
    monkeypatch.setattr(GradientBoostingRegressor, "_fit_stages", faster_syne.fit_stages)
    monkeypatch.setattr(bore, "suggest", faster_syne.faster(bore.suggest))
    monkeypatch.setattr(surrogate, "_update_candidates", faster_syne.update_candidates)
    assert proposals() == expected


def test_the_logarithm_of_the_normal_distribution_function_is_that_of_optuna() -> None:
    random = np.random.RandomState(0)
    edges = [np.inf, -np.inf, 0.0, 6.0, -20.0, 1.0, -1.0, np.nextafter(1, 2), np.nextafter(-20, 0)]
    asked = np.concatenate([random.randn(20_000) * 8, random.randn(20_000) * 1000, edges])
    np.testing.assert_array_equal(faster_tpe.log_ndtr(asked), faster_tpe.optunas_log_ndtr(asked))


def test_tpe_proposes_what_it_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    def proposals() -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1, multivariate=True))

        def objective(trial: optuna.Trial) -> float:
            rate = trial.suggest_float("lr", 1e-4, 1, log=True)
            return abs(np.log(rate) + 3) + abs(trial.suggest_int("width", 16, 512, log=True) - 40) / 100

        study.optimize(objective, n_trials=40)
        return [trial.params for trial in study.trials]

    monkeypatch.setattr(_truncnorm, "_log_ndtr", faster_tpe.optunas_log_ndtr)  # whatever an earlier test installed
    expected = proposals()
    monkeypatch.setattr(_truncnorm, "_log_ndtr", faster_tpe.log_ndtr)
    assert proposals() == expected
