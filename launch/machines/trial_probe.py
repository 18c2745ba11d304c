"""Trial probe: the costliest configuration of a search takes one real step where a trial would run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
import ray

from launch.machines.cluster import MachineShare
from search_spaces.search import Search
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.costs import num_parameters
from trainables.data.dataset import Dataset
from visionsweep.core.errors import Contradiction

NUM_DRAWS = 48
PROBE_S = 300.0


@dataclass(frozen=True)
class ProbeResult:
    """Resources of the costliest configuration that was drawn.

    config          flat values as drawn
    peak_memory_mb  of its step
    step_seconds    of its step
    problem         how the step failed, or ''
    """

    config: dict[str, Any]
    peak_memory_mb: float = 0.0
    step_seconds: float = 0.0
    problem: str = ""


def costliest(search: Search, num_outputs: int) -> dict[str, Any]:
    """Return the costliest of NUM_DRAWS random configurations: the one with the most weights times pixels.

    A step's memory and time grow with that product. Weights are counted on torch's meta device, where they take no
    memory.
    """
    import torch

    from trainables.models.build import build_model

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    weights: dict[str, int] = {}
    best: tuple[float, dict[str, Any]] | None = None
    for _ in range(NUM_DRAWS):
        drawn = search.draw(study.ask())
        try:
            config = parse_config(drawn, "the search")
        except Contradiction:
            continue
        key = repr(config.model)
        if key not in weights:
            with torch.device("meta"):
                untrained = config.model.model_copy(update={"weights": "none"})
                weights[key] = num_parameters(build_model(untrained, num_outputs, config.image_size))
        cost = float(weights[key]) * config.batch_size * config.image_size**2
        if best is None or cost > best[0]:
            best = cost, drawn
    assert best is not None, "a space without a valid configuration was refused before"
    return best[1]


def measure(drawn: dict[str, Any], dataset: Dataset, share: MachineShare) -> ProbeResult:
    """Train and validate one batch of the data, in a task with a trial's share of a machine."""
    task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0, max_calls=1)(_step)
    try:
        peak_memory_mb, seconds = ray.get(
            task.remote(drawn, dataset, share.gpus, max(1, int(share.cpus))), timeout=PROBE_S
        )
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return ProbeResult(drawn, problem=(lines[-1] if lines else type(error).__name__)[:300])
    return ProbeResult(drawn, peak_memory_mb, seconds)


def _step(drawn: dict[str, Any], dataset: Dataset, gpus: float, cpus: int) -> tuple[float, float]:
    """Return (peak memory in MB, seconds) of an epoch of one batch. With several GPUs it is the part of one of them."""
    from trainables.data.augment import cached_short_side
    from trainables.data.formats import reopen_images
    from trainables.data.loader import TrialData
    from trainables.device import trial_device
    from trainables.loop import fit
    from trainables.parallel.processes import num_ranks
    from trainables.parallel.shares import most_images
    from trainables.worker.threads import limit_threads

    limit_threads(cpus)
    one_pass = {"epochs": 1, "repeat": 1, "least_epoch_images": None}
    config: TrialConfig = parse_config(drawn, "the search").model_copy(update=one_pass)
    if hasattr(config.model, "decoder_first"):  # a step of all layers takes the most
        config = config.model_copy(update={"model": config.model.model_copy(update={"decoder_first": 0.0})})
    config = config.model_copy(update={"batch_size": most_images(config, num_ranks(gpus))})
    small = replace(dataset, split=first_of_each(dataset.split, config.batch_size))
    images = reopen_images(small, cached_short_side(config), None)  # a batch: not worth a cache
    result = next(fit(config, TrialData(small, images), trial_device(gpus)))
    return result.peak_memory_mb, result.seconds


def first_of_each(split: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the split (N,) with the first batch of train and of val left, and the rest skipped."""
    kept = np.full_like(split, "skipped")
    for name in ("train", "val"):
        chosen = np.flatnonzero(split == name)[:batch_size]
        kept[chosen] = name
    return kept
