"""The speed of a configuration on this machine, measured on a few of its own images in a few seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
import ray
import torch

from launch.machines.cluster import MachineShare
from search_spaces.grammar import REGIME
from search_spaces.paths import lowest
from search_spaces.regimes import by_regime
from search_spaces.search import Search
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import cached_short_side
from trainables.data.cache_build import Source
from trainables.data.dataset import Dataset
from trainables.data.images import DecodedImages
from trainables.data.loader import TrialData
from trainables.data.remote import bring_again
from trainables.data.stratify import stratified_draw
from trainables.data.view import View
from trainables.device import trial_device
from trainables.loop import fit
from trainables.parallel.processes import num_ranks
from trainables.worker.threads import threads_of_a_trial
from visionsweep.core.errors import Contradiction, InputError

NUM_TRAINED = 32  # images of an epoch that is timed, in batches of at most BATCH
BATCH = 16
NUM_JUDGED = 16
# images whose features are computed: to warm up, and timed
FEW = 8
MORE = 48
NUM_DRAWS = 24
MOST_S = 120.0  # on a GPU, with the start of the process
MOST_COMPILED_S = 300.0  # more for each regime whose training is compiled


@dataclass(frozen=True)
class Speed:
    """What a trial takes, in seconds.

    An epoch's seconds come from its training and its validation images.

        fixed_s   once, whatever it looks at; compilation is in it
        start_s   once for every image that its head begins with
        train_s   in every epoch, for every image that it trains on
        judge_s   in every epoch, for every image that judges it
        shortest  epochs of the shortest trial of the space
        config    the configuration that was measured
        by_area   share of an epoch that does not wait for images, so grows with their area; None: not known
    """

    fixed_s: float
    start_s: float
    train_s: float
    judge_s: float
    shortest: int
    config: Mapping[str, Any]
    by_area: float | None = None

    def trial_s(self, num_trained: float, num_judged: float, epochs: float) -> float:
        """Return the seconds of a trial that trains on `num_trained` images an epoch."""
        in_epochs = epochs * (num_trained * self.train_s + num_judged * self.judge_s)
        return self.fixed_s + num_trained * self.start_s + in_epochs


def speeds(search: Search, dataset: Dataset, share: MachineShare) -> dict[str, Speed]:
    """Return the speed of a usual configuration of each regime, by the regime's name; "" in a space without regimes.

    A regime whose configuration fails has none: `check` and its trials say why.

    search: for the data's task. share: what a trial gets; with a GPU it is measured where a trial would run.
    """
    cpus = max(1, int(share.cpus))
    if not share.gpus:
        return _speeds(search, dataset, cpus, 0.0)
    task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0, max_calls=1)(_speeds)
    compiled = sum(bool(usual(search, name).get("compile")) for name in by_regime(search.full_space))
    try:
        most_s = MOST_S + compiled * MOST_COMPILED_S
        found: dict[str, Speed] = ray.get(task.remote(search, dataset, cpus, share.gpus), timeout=most_s)
    except Exception:  # whatever it is, the trials will say it
        return {}
    return found


def _speeds(search: Search, dataset: Dataset, cpus: int, gpus: float) -> dict[str, Speed]:
    if dataset.copy is not None:
        bring_again(dataset.copy)
    found = {}
    for name, space in by_regime(search.full_space).items():
        drawn = usual(search, name)
        shortest = int(lowest(space, "epochs") or search.epochs)
        try:
            with threads_of_a_trial(cpus):
                found[name] = _measured(drawn, dataset, trial_device(gpus), shortest, num_ranks(gpus))
        except (InputError, RuntimeError, OSError, ValueError):
            continue
    return found


def usual(search: Search, regime: str) -> dict[str, Any]:
    """Return the configuration of a regime that the search tries first.

    If the search gives none, it is one whose images are neither small nor large.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for config in search.warm_start:
        params = search.encode(config)
        if params.get(REGIME, regime) == regime:
            study.enqueue_trial(params)
    drawn = list[dict[str, Any]]()
    first = len(study.get_trials(deepcopy=False))
    for number in range(first + NUM_DRAWS):
        if number >= first and regime:
            study.enqueue_trial({REGIME: regime})
        try:
            one = search.draw(study.ask())
            parse_config(one, "the search")
        except Contradiction:
            continue
        if number < first:
            return one
        drawn.append(one)
    drawn.sort(key=lambda one: float(one.get("image_size", 0)))
    return drawn[len(drawn) // 2]


def _measured(drawn: Mapping[str, Any], dataset: Dataset, device: torch.device, shortest: int, ranks: int) -> Speed:
    config = parse_config(dict(drawn), "the search").model_copy(update={"epoch_images": None, "repeat": 1})
    if config.views is not None:
        _first_epoch(config, dataset, device, FEW)  # warms up libraries, kernels and the decoder
        wall_s, seconds = _first_epoch(config, dataset, device, MORE)
        # Count the whole epoch, with the solving: the difference of two such short times would be noise.
        return Speed(wall_s - seconds, 0.0, seconds / MORE, seconds / MORE / config.views, shortest, drawn)
    batch_size = min(config.batch_size, BATCH)
    no_patience = {"early_stopping_patience": None}
    small = config.model_copy(update={"epochs": 2, "batch_size": batch_size, "accumulate": 1, **no_patience})
    data = _some(small, dataset, NUM_TRAINED, NUM_JUDGED)
    began = time.perf_counter()
    _, second = fit(small, data, device, ranks=ranks)  # the first epoch's seconds include the start
    train_s = 1 / second.images_per_s
    trained_s = len(data.dataset.indices("train")) * train_s
    judge_s = max(0.0, second.seconds - trained_s) / max(1, len(data.dataset.indices("val")))
    fixed_s = max(0.0, time.perf_counter() - began - 2 * second.seconds)
    begins = getattr(config.model, "head_init", "random") == "probe"
    by_area = max(0.0, 1 - second.waited_s / max(1e-9, second.seconds))
    return Speed(fixed_s, judge_s if begins else 0.0, train_s, judge_s, shortest, drawn, by_area)


def _first_epoch(config: TrialConfig, dataset: Dataset, device: torch.device, number: int) -> tuple[float, float]:
    """Return the seconds of an epoch on `number` images: with all that comes before it, and alone."""
    one = config.model_copy(update={"epochs": 1, "batch_size": min(config.batch_size, number)})
    began = time.perf_counter()
    result = next(fit(one, _some(one, dataset, number, 1), device))
    return time.perf_counter() - began, result.seconds


def _some(config: TrialConfig, dataset: Dataset, num_train: int, num_val: int) -> TrialData:
    """Return the data with a few images of each side, all others left out."""
    split = np.full_like(dataset.split, "skipped")
    for side, number in (("train", num_train), ("val", num_val)):
        rows = dataset.indices(side)
        split[rows[stratified_draw(dataset.targets[rows], number, 0)]] = side
    source = Source(dataset.names, dataset.reader, dataset.mask_reader)
    return TrialData(replace(dataset, split=split), DecodedImages(source, View(cached_short_side(config)), {}))
