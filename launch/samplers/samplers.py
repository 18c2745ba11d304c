"""The functions of `SAMPLERS` (`visionsweep/core/names.py`): visionsweep's own sampler, and Optuna's."""

from __future__ import annotations

import warnings

import optuna
from optuna.samplers import BaseSampler

from launch.samplers.fidelity_sampler import FidelitySampler
from launch.samplers.history import Ladder
from search_spaces.search import Search
from visionsweep.core.functions import function_at
from visionsweep.core.names import SAMPLERS, pick


def build_sampler(search: Search, seed: int, num_before: int) -> BaseSampler:
    """Return the search's sampler. num_before: trials of the run before it was resumed.

    Optuna's samplers draw from a stream of random numbers. A resumed run starts another stream, or it would propose its
    first trials again. Our own sampler needs no such care (see FidelitySampler).
    """
    build = function_at(pick(SAMPLERS, search.sampler, "sampler").function)
    with warnings.catch_warnings():
        # Optuna still marks `multivariate` and `group` as experimental, which have been stable for years.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: BaseSampler = build(search, seed, num_before)
    return sampler


def fidelity(search: Search, seed: int, num_before: int) -> BaseSampler:
    """visionsweep's own sampler, see `launch.samplers.fidelity_sampler`."""
    ladder = Ladder(search.grace_epochs, search.epochs, search.reduction_factor)
    given = [search.encode(config) for config in search.warm_start]
    return FidelitySampler(search.full_space, ladder, search.compared, seed, given)


def tpe(search: Search, seed: int, num_before: int) -> BaseSampler:
    """TPE over the joint conditional space (`group`), with running trials taken into account (constant liar)."""
    return optuna.samplers.TPESampler(seed=seed + num_before, multivariate=True, group=True, constant_liar=True)


def stock(search: Search, seed: int, num_before: int) -> BaseSampler:
    """TPE with the defaults of Optuna and of Ray's OptunaSearch."""
    return optuna.samplers.TPESampler(seed=seed + num_before)


def random(search: Search, seed: int, num_before: int) -> BaseSampler:
    """Independent random trials."""
    return optuna.samplers.RandomSampler(seed=seed + num_before)


def quasirandom(search: Search, seed: int, num_before: int) -> BaseSampler:
    """A Sobol sequence over the unconditional parameters, random values for the rest."""
    return optuna.samplers.QMCSampler(seed=seed + num_before, scramble=True, warn_independent_sampling=False)


def gp(search: Search, seed: int, num_before: int) -> BaseSampler:
    """Optuna's Gaussian process over the unconditional parameters, random values for the rest.

    It sees complete trials only.
    """
    return optuna.samplers.GPSampler(seed=seed + num_before, warn_independent_sampling=False)


def cmaes(search: Search, seed: int, num_before: int) -> BaseSampler:
    """CMA-ES over the unconditional numbers, random values for the rest."""
    return optuna.samplers.CmaEsSampler(seed=seed + num_before, warn_independent_sampling=False)


def nsga2(search: Search, seed: int, num_before: int) -> BaseSampler:
    """A genetic algorithm (Deb et al. 2002), with populations small enough for a search of some dozens of trials."""
    return optuna.samplers.NSGAIISampler(seed=seed + num_before, population_size=16)
