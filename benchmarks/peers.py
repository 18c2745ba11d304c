"""Other search methods behind `benchmarks.simulate.Method`, each called as its own users' loop calls it.

    PEERS["tpe-asha-4"](black_box, seed)

A number at the end of a name is the grace period in epochs. The reduction factor is 3. Nested spaces: see Flat. Syne
Tune's methods need `pip install "syne-tune[basic]==0.16"` (SYNE_TUNE is whether it is installed).
"""

from __future__ import annotations

import datetime
import functools
import importlib
import importlib.util
import logging
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from benchmarks import faster_syne, faster_tpe
from benchmarks.simulate import BlackBox, Method
from benchmarks.simulate_ray import RayTrial
from launch.samplers.encoding import Parameter, parameters
from search_spaces.grammar import Float, Int, Pick, draw

METRIC = "objective"
REDUCTION_FACTOR = 3
SYNE_TUNE = importlib.util.find_spec("syne_tune") is not None

optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("ray.tune.search.optuna.optuna_search").setLevel(logging.ERROR)  # one line per diverged trial


class Stock:
    """Ray Tune's own searcher and scheduler around a function that reports every epoch and ends at NaN.

    Ray reports such a function's last result once more when it returns, through `on_trial_complete` (`TuneController`,
    RESULT_DUPLICATE). So a trial that ASHA stopped, or whose value is NaN, comes to Optuna as COMPLETE.
    """

    def __init__(self, searcher: Searcher, scheduler: TrialScheduler) -> None:
        self.searcher = searcher
        self.scheduler = scheduler
        self.trials: dict[str, RayTrial] = {}

    def suggest(self, trial_id: str) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.searcher.suggest(trial_id)
        self.trials[trial_id] = RayTrial(trial_id, config)
        self.scheduler.on_trial_add(None, self.trials[trial_id])
        return config

    def on_epoch(self, trial_id: str, epoch: int, value: float, seconds: float) -> bool:
        trial = self.trials[trial_id]
        trial.last_result = {"trial_id": trial_id, "training_iteration": epoch, METRIC: value, "time_total_s": seconds}
        continues: bool = self.scheduler.on_trial_result(None, trial, trial.last_result) == TrialScheduler.CONTINUE
        if continues:
            self.searcher.on_trial_result(trial_id, trial.last_result)
        return continues

    def on_end(self, trial_id: str, status: str) -> None:
        trial = self.trials.pop(trial_id)
        if status != "interrupted":
            self.scheduler.on_trial_complete(None, trial, trial.last_result)
            self.searcher.on_trial_complete(trial_id, trial.last_result)


class OptunaLoop:
    """Optuna by itself: ask, report, should_prune, tell."""

    def __init__(self, study: optuna.Study, space: Mapping[str, BaseDistribution]) -> None:
        self.study = study
        self.space = dict(space)
        self.trials: dict[str, optuna.Trial] = {}

    def suggest(self, trial_id: str) -> Mapping[str, Any]:
        trial = self.trials[trial_id] = self.study.ask(self.space)
        return trial.params

    def on_epoch(self, trial_id: str, epoch: int, value: float, seconds: float) -> bool:
        trial = self.trials[trial_id]
        trial.report(value, epoch)
        return not trial.should_prune()

    def on_end(self, trial_id: str, status: str) -> None:
        trial = self.trials.pop(trial_id)
        if status == "complete":
            values = self.study.trials[trial.number].intermediate_values
            self.study.tell(trial, values[max(values)])
        elif status != "interrupted":  # the pruners prune at NaN
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)


class SyneTune:
    """A scheduler of Syne Tune, called as its `Tuner` calls it (`_process_new_results`, 0.16)."""

    def __init__(self, scheduler: Any, mode: str) -> None:
        self.scheduler = scheduler
        self.make_trial = importlib.import_module("syne_tune.backend.trial_status").Trial
        self.worse = max if mode == "min" else min
        self.worst: float | None = None
        self.trials: dict[str, tuple[Any, dict[str, Any]]] = {}

    def suggest(self, trial_id: str) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.scheduler.suggest().config
        trial = self.make_trial(int(trial_id), config, datetime.datetime.now())
        self.trials[trial_id] = trial, {}
        self.scheduler.on_trial_add(trial)
        return config

    def on_epoch(self, trial_id: str, epoch: int, value: float, seconds: float) -> bool:
        trial, result = self.trials[trial_id]
        if math.isfinite(value):
            self.worst = value if self.worst is None else self.worse(self.worst, value)
        else:  # its models refuse NaN, and the worst finite value of the search serves them best
            value = 0.0 if self.worst is None else self.worst
        result.update({METRIC: value, "epoch": epoch, "decision": ""})
        result["decision"] = self.scheduler.on_trial_result(trial, result)
        return bool(result["decision"] == "CONTINUE")

    def on_end(self, trial_id: str, status: str) -> None:
        trial, result = self.trials.pop(trial_id)
        if status == "interrupted":
            return
        if result["decision"] == "STOP":
            self.scheduler.on_trial_remove(trial)
        else:
            self.scheduler.on_trial_complete(trial, result)


class Flat:
    """A method that searches `flat(space)`. A configuration keeps the proposed values of the drawn arms.

    The method learns from the others too. Optuna, drawing define-by-run, could spare TPE that, but Syne Tune could not.
    """

    def __init__(self, method: Method, space: Mapping[str, Any]) -> None:
        self.method = method
        self.space = space
        self.parameters = flat(space)
        self.on_epoch = method.on_epoch
        self.on_end = method.on_end

    def suggest(self, trial_id: str) -> Mapping[str, Any]:
        proposed = self.method.suggest(trial_id) or {}
        params = {parameter.name: proposed[key] for key, parameter in self.parameters.items()}
        return draw(self.space, optuna.trial.FixedTrial(params))


def asha(black_box: BlackBox, grace: int) -> TrialScheduler:
    return AsyncHyperBandScheduler(
        metric=METRIC,
        mode=black_box.mode,
        max_t=black_box.epochs,
        grace_period=grace,
        reduction_factor=REDUCTION_FACTOR,
    )


def stock(
    sampler: Callable[[int], optuna.samplers.BaseSampler], grace: int | None, black_box: BlackBox, seed: int
) -> Method:
    """Ray's OptunaSearch, with ASHA from `grace` epochs on, or without pruning."""
    space = distributions(black_box.space)
    searcher = OptunaSearch(space, metric=METRIC, mode=black_box.mode, sampler=sampler(seed))
    return Flat(Stock(searcher, FIFOScheduler() if grace is None else asha(black_box, grace)), black_box.space)


def optuna_hyperband(black_box: BlackBox, seed: int) -> Method:
    """TPE with Optuna's HyperbandPruner, from 1 epoch on."""
    pruner = optuna.pruners.HyperbandPruner(1, black_box.epochs, REDUCTION_FACTOR)
    study = optuna.create_study(
        study_name=f"hyperband-{seed}",  # its hash decides about brackets
        sampler=_tpe(seed),
        pruner=pruner,
        direction="maximize" if black_box.mode == "max" else "minimize",
    )
    return Flat(OptunaLoop(study, distributions(black_box.space)), black_box.space)


def syne_tune(name: str, grace: int, black_box: BlackBox, seed: int) -> Method:
    """Return `name` of syne_tune.optimizer.baselines, with its own defaults but for the rungs.

    It also draws from `numpy.random`, which is seeded here.
    """
    warnings.filterwarnings("ignore", module="(pandas|statsmodels|syne_tune)")  # its own use of older interfaces
    faster_syne.install()
    np.random.seed(seed)
    syne = importlib.import_module("syne_tune.config_space")
    baselines = importlib.import_module("syne_tune.optimizer.baselines")
    logging.getLogger("syne_tune").setLevel(logging.ERROR)
    # (whether a Float, whether log) -> the kind of range
    kinds = {
        (True, True): syne.loguniform,
        (True, False): syne.uniform,
        (False, True): syne.lograndint,
        (False, False): syne.randint,
    }

    def in_its_words(node: Float | Int | Pick) -> Any:
        if isinstance(node, Pick):
            return syne.choice(list(node.choices))
        return kinds[isinstance(node, Float), node.log](node.low, node.high)

    scheduler = getattr(baselines, name)(
        config_space={name: in_its_words(parameter.range) for name, parameter in flat(black_box.space).items()},
        metric=METRIC,
        time_attr="epoch",
        max_t=black_box.epochs,
        do_minimize=black_box.mode == "min",
        random_seed=seed,
        grace_period=grace,
        reduction_factor=REDUCTION_FACTOR,
    )
    return Flat(SyneTune(scheduler, black_box.mode), black_box.space)


def flat(space: Mapping[str, Any]) -> dict[str, Parameter]:
    """Return every parameter of every arm of a space, by a name that Ray's OptunaSearch does not take for a path."""
    return {parameter.name.replace("/", "."): parameter for parameter in parameters(space)}


def distributions(space: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Return `flat(space)` as Optuna's distributions."""
    return {name: _distribution(parameter.range) for name, parameter in flat(space).items()}


def _distribution(node: Float | Int | Pick) -> BaseDistribution:
    if isinstance(node, Pick):
        return CategoricalDistribution(node.choices)
    if isinstance(node, Int):
        return IntDistribution(node.low, node.high, node.log, node.step)
    return FloatDistribution(node.low, node.high, node.log, node.step)


def _random(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
    faster_tpe.install()
    return optuna.samplers.TPESampler(seed=seed)


PEERS: dict[str, Callable[[BlackBox, int], Method]] = {
    "random": functools.partial(stock, _random, None),
    **{f"random-asha-{grace}": functools.partial(stock, _random, grace) for grace in (1, 4)},
    "tpe": functools.partial(stock, _tpe, None),
    **{f"tpe-asha-{grace}": functools.partial(stock, _tpe, grace) for grace in (1, 4)},
    "optuna-hyperband": optuna_hyperband,
}
if SYNE_TUNE:
    PEERS |= {
        f"syne-{name.lower()}-{grace}": functools.partial(syne_tune, name, grace)
        for name in ("ASHA", "BOHB", "ASHABORE", "ASHACQR")
        for grace in (1, 4)
    }
