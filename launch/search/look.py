"""`visionsweep check --look`: photos as training will see them, by some configurations of the search, without a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
from rich.console import Console

from analysis.report.look import augmentation_words, write_look
from launch.cli.printing import print_found
from launch.search.prepare import RunOptions, prepared
from search_spaces.search import Search
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.summary import summary
from visionsweep.core.errors import Contradiction

NUM_DRAWS = 60
NUM_CONFIGS = 3  # with different augmentations


def look_at(search: Search, options: RunOptions, title: str, out: Path, console: Console) -> Path:
    """Write the page and return its path. Prints what the data is. Raises InputError, as `run` does.

    title: the search's name. Nothing is decoded but the photos that are shown.
    """
    search, dataset = prepared(search, replace(options, cache_dir=None, budget_s=None, alike=()))
    print_found(dataset, console)
    return write_look(configurations(search), dataset, title, summary(dataset), out)


def configurations(search: Search) -> list[TrialConfig]:
    """Return configurations of a search for its data's task: what it tries first, and others that augment otherwise.

    Probes come only where the search has nothing else: they augment nothing.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for first in search.warm_start:
        study.enqueue_trial(search.encode(first))
    found: dict[str, TrialConfig] = {}
    probes = list[TrialConfig]()
    for _ in range(NUM_DRAWS + len(search.warm_start)):
        try:
            config = parse_config(search.draw(study.ask()), "the search")
        except Contradiction:
            continue
        if config.optimizer.name == "lbfgs":
            probes.append(config)
        else:
            found.setdefault(augmentation_words(config), config)
        if len(found) == NUM_CONFIGS:
            break
    return list(found.values()) or probes[:1]
