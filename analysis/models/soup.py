"""Model soup: the mean of the weights of several fine-tunings, which predicts in the time of one model.

Fine-tunings that began at the same weights end in one wide valley. The mean of their weights is often better than each
of them. The members are chosen greedily (recipe 1 of the paper), the best first. A further model stays if the soup with
it is no worse on the validation images.

Source: Wortsman et al. 2022, "Model soups", arXiv:2203.05482.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from analysis.models.kept import Kept
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.ensemble import model_with, read_weights
from trainables.evaluate import Evaluation, evaluate
from trainables.targets import classes_and_labels
from visionsweep.core.errors import Interrupted, RunError
from visionsweep.run_dir.files import weights_file
from visionsweep.run_dir.run import Run

# Model options that decide how the initial weights are trained, and not which ones they are.
NOT_THE_START = ("freeze", "batch_norm", "adapter", "aux_weight", "decoder_first")


@dataclass(frozen=True, eq=False)
class Soup:
    """A soup, and its score on the validation images.

    members  the best first; its configuration is the soup's
    judged   on the validation images
    """

    members: tuple[Kept, ...]
    judged: Evaluation


def start_of(config: TrialConfig) -> str:
    """Return a key of the initial weights: trainings with equal keys began at the same weights."""
    model = {name: value for name, value in config.model.model_dump(mode="json").items() if name not in NOT_THE_START}
    if isinstance(model.get("head"), dict):
        model["head"].pop("dropout", None)
    merge = {name: list(old) for name, old in config.merge.items()}
    return json.dumps([config.task, model, merge, config.seed], sort_keys=True)


def ingredients(kept: Sequence[Kept]) -> list[Kept]:
    """Return the models that began at the same weights, best first.

    The start is that of the best model which shares its start with another one. A solved head has no start.
    """
    kept = [one for one in kept if str(one.config.optimizer.name) != "lbfgs"]
    starts = [start_of(one.config) for one in kept]
    first = next((start for start in starts if starts.count(start) > 1), None)
    return [one for one, start in zip(kept, starts, strict=True) if start == first]


def mean_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """Return the mean of each tensor, including statistics of batch norm.

    Tensors of whole numbers, which count batches, are those of the first file. Raises RunError if a file cannot be
    read, or holds other tensors than the first.
    """
    total: dict[str, Tensor] = {}
    for file in files:
        weights = read_weights(file)
        if not total:
            total = {name: one.double() if one.is_floating_point() else one for name, one in weights.items()}
            kinds = {name: one.dtype for name, one in weights.items()}
            continue
        if {name: one.shape for name, one in weights.items()} != {name: one.shape for name, one in total.items()}:
            raise RunError(f"{file}: has weights of other shapes than {files[0]}, and a soup takes equal ones.")
        for name, one in weights.items():
            if one.is_floating_point():
                total[name] += one.double()
    return {name: (one / len(files)).to(kinds[name]) if one.is_floating_point() else one for name, one in total.items()}


def cook(
    run: Run,
    data: TrialData,
    kept: Sequence[Kept],
    device: torch.device,
    left_s: Callable[[], float],
) -> list[Soup]:
    """Return every soup that was judged, in turn, in the time that is left.

    `kept` are models of the same classes, the best first. `left_s` returns the seconds that are left. The list is empty
    if no two models began at the same weights.
    """
    having = ingredients(kept)
    if not having:
        return []
    found: list[Soup] = []
    chosen = having[:1]
    best = having[0].value
    took_s = 0.0
    for one in having[1:]:
        began = time.monotonic()
        if left_s() <= took_s:  # the next one would take as long, and would not finish
            break
        try:
            soup = Soup((*chosen, one), _taste(run, data, [*chosen, one], device, left_s))
        except Interrupted:
            break
        except RunError:  # weights are gone, or have another shape, as in some networks at another image size
            continue
        value = soup.judged.metrics.get(run.metric)
        if value is None:
            break
        found.append(soup)
        if run.sign * value >= run.sign * best:
            chosen = [*chosen, one]
            best = value
        took_s = time.monotonic() - began
    return found


def _taste(
    run: Run, data: TrialData, members: Sequence[Kept], device: torch.device, left_s: Callable[[], float]
) -> Evaluation:
    config = members[0].config
    classes, labels, _ = classes_and_labels(config, data)
    files = [weights_file(run.run_dir, one.trial_id, one.epoch) for one in members]
    model = model_with(mean_weights(files), config, len(classes), device, files[0])

    def stop() -> str | None:
        return None if left_s() > 0 else "the budget is spent"

    return evaluate(config, [model], data, labels, device, stop=stop)
