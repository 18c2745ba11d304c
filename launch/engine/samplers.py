"""Who proposes: visionsweep's own sampler, or one of Optuna's by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import optuna
from optuna.samplers import BaseSampler

from launch.engine.fidelity_sampler import FidelitySampler
from launch.engine.history import Ladder
from search_spaces.names import pick
from search_spaces.search import Search


def build_sampler(search: Search, seed: int, num_before: int) -> BaseSampler:
    """The search's sampler. num_before: trials of a run that is gone on with.

    Optuna's samplers draw from a stream of random numbers; one that goes on starts another stream, or it would propose
    its first trials again. Our own needs no such care (see FidelitySampler).
    """
    build = pick(SAMPLERS, search.sampler, "sampler")
    with warnings.catch_warnings():
        # Optuna marks much as experimental that has been stable for years, `multivariate` and `group` among it.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return build(search, seed, num_before)


def fidelity(search: Search, seed: int, num_before: int) -> BaseSampler:
    """See `launch.engine.fidelity_sampler`."""
    ladder = Ladder(search.grace_epochs, search.epochs, search.reduction_factor)
    return FidelitySampler(search.full_space, ladder, search.compared, seed, len(search.warm_start))


def tpe(search: Search, seed: int, num_before: int) -> BaseSampler:
    """TPE over the joint conditional space (`group`), with running trials taken into account (constant liar)."""
    return optuna.samplers.TPESampler(seed=seed + num_before, multivariate=True, group=True, constant_liar=True)


def stock(search: Search, seed: int, num_before: int) -> BaseSampler:
    """TPE as Optuna and Ray's OptunaSearch give it."""
    return optuna.samplers.TPESampler(seed=seed + num_before)


def random(search: Search, seed: int, num_before: int) -> BaseSampler:
    """Each trial by itself."""
    return optuna.samplers.RandomSampler(seed=seed + num_before)


def quasirandom(search: Search, seed: int, num_before: int) -> BaseSampler:
    """Sobol's sequence over what is not conditional, chance for the rest."""
    return optuna.samplers.QMCSampler(seed=seed + num_before, scramble=True, warn_independent_sampling=False)


def gp(search: Search, seed: int, num_before: int) -> BaseSampler:
    """Optuna's Gaussian process over what is not conditional, chance for the rest; sees complete trials only."""
    return optuna.samplers.GPSampler(seed=seed + num_before, warn_independent_sampling=False)


def cmaes(search: Search, seed: int, num_before: int) -> BaseSampler:
    """CMA-ES over the numbers that are not conditional, chance for the rest."""
    return optuna.samplers.CmaEsSampler(seed=seed + num_before, warn_independent_sampling=False)


def nsga2(search: Search, seed: int, num_before: int) -> BaseSampler:
    """A genetic algorithm (Deb et al. 2002), with populations small enough for a search of some dozens of trials."""
    return optuna.samplers.NSGAIISampler(seed=seed + num_before, population_size=16)


SAMPLERS: dict[str, Callable[[Search, int, int], BaseSampler]] = {
    "fidelity": fidelity,
    "tpe": tpe,
    "random": random,
    "quasirandom": quasirandom,
    "gp": gp,
    "cmaes": cmaes,
    "nsga2": nsga2,
    "stock": stock,
}
