"""--warm-start: what earlier runs, or the reports' recipes, found good is tried first.

It is trusted only as far as it proves right. Its trials are trials like others, pruned if they are not among the best.
The sampler learns from what they do here, not from what they did there. The idea is that of Feurer et al. 2015
(initialising Bayesian optimisation by meta-learning), with the user naming what is related.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.remote.open_run import open_run
from search_spaces.recipes import RECIPES, recipe
from search_spaces.search import Search
from visionsweep.core.errors import ConfigError
from visionsweep.core.s3 import is_remote
from visionsweep.core.tasks import CLASSIFICATION
from visionsweep.run_dir.rank import ranked

TOP = 3  # trials of a run: a bad run then costs a few trials, pruned at the first rung


def warm_started(search: Search, sources: Sequence[str]) -> Search:
    """Return the search with the best configurations of each source before its own first trials.

    sources: run directories or names of recipes. Raises ConfigError for one that is neither, is for another task, or
    has nothing in common with the space.
    """
    found: list[Mapping[str, Any]] = []
    for source in sources:
        for config in _configs(search, source):
            if config not in found:
                found.append(config)
    return replace(search, warm_start=(*found, *search.warm_start))


def _configs(search: Search, source: str) -> list[dict[str, Any]]:
    if source in RECIPES:
        task = recipe(source)["task"]
        configs = [recipe(source)]
    elif is_remote(source) or Path(source).exists():
        with open_run(source) as run:
            task = run.search["search"]["task"]
            scored = [trial for trial in ranked(run.trials, run.objectives) if trial.best(run.metric, run.mode)]
        configs = [trial.config for trial in scored[:TOP]]
        if not configs:
            raise ConfigError(f"--warm-start {source}: no trial of that run finished an epoch. Leave it out.")
    else:
        raise ConfigError(
            f"--warm-start takes a run directory or a recipe, and '{source}' is neither. "
            "`ls runs` and `visionsweep recipes` list them."
        )
    asked = search.tasks
    both_classify = task in CLASSIFICATION and asked[0] in CLASSIFICATION
    if task not in asked and not both_classify:
        raise ConfigError(
            f"--warm-start {source}: is for {task}, and this search is for {' or '.join(asked)}. Leave it out."
        )
    useful = [config for config in configs if search.encode(config)]
    if not useful:
        raise ConfigError(f"--warm-start {source}: nothing of it fits into the space of this search. Leave it out.")
    return useful
