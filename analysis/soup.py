"""A soup: the mean of the weights of several fine-tunings, which predicts in the time of one model.

Fine-tunings that began at the same weights end in one wide valley, where the mean of their weights is often better than
each of them (Wortsman et al. 2022, "Model soups", arXiv:2203.05482). Which of them go in is decided greedily, as there
(recipe 1): the best first, and each of the others stays where the soup on the validation images is no worse with it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from analysis.kept import Kept, weights_of
from analysis.load import Run
from search_spaces.errors import Interrupted, RunError
from trainables.config import TrialConfig
from trainables.data.loader import TrialData
from trainables.ensemble import model_with, read_weights
from trainables.evaluate import Evaluation, evaluate
from trainables.targets import what_to_learn

# Of a model's configuration: what says how its first weights are trained, and not which they are.
NOT_THE_START = ("freeze", "batch_norm", "adapter", "aux_weight", "decoder_first")


@dataclass(frozen=True, eq=False)
class Soup:
    """members: the best first. The soup predicts by its configuration. judged: on the validation images."""

    members: tuple[Kept, ...]
    judged: Evaluation


def start_of(config: TrialConfig) -> str:
    """What the weights depend on with which a training begins: trainings with the same answer began at the same."""
    model = {name: value for name, value in config.model.model_dump(mode="json").items() if name not in NOT_THE_START}
    if isinstance(model.get("head"), dict):
        model["head"].pop("dropout", None)
    merge = {name: list(old) for name, old in config.merge.items()}
    return json.dumps([config.task, model, merge, config.seed], sort_keys=True)


def ingredients(kept: Sequence[Kept]) -> list[Kept]:
    """Of models, best first, those that began where the best one did that is not alone with its start. A head that is
    solved began nowhere."""
    kept = [one for one in kept if str(one.config.optimizer.name) != "lbfgs"]
    starts = [start_of(one.config) for one in kept]
    first = next((start for start in starts if starts.count(start) > 1), None)
    return [one for one, start in zip(kept, starts, strict=True) if start == first]


def mean_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of each tensor, statistics of batch norm too; of whole numbers, which count batches, the first file's.

    Raises RunError where a file cannot be read, or holds other tensors than the first.
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
    """Every soup that was tasted, in turn, in the time that is left; none where no two models began at one place.

    kept: models of the same classes, the best first. left_s: seconds that are left.
    """
    having = ingredients(kept)
    if not having:
        return []
    sign = 1 if run.mode == "max" else -1
    found: list[Soup] = []
    chosen, best, took_s = having[:1], having[0].value, 0.0
    for one in having[1:]:
        began = time.monotonic()
        if left_s() <= took_s:  # the next one would take as long, and be lost
            break
        try:
            soup = Soup((*chosen, one), _taste(run, data, [*chosen, one], device, left_s))
        except Interrupted:
            break
        except RunError:  # of another shape, as some networks have at another image size; or no longer there
            continue
        value = soup.judged.metrics.get(run.metric)
        if value is None:
            break
        found.append(soup)
        if sign * value >= sign * best:
            chosen, best = [*chosen, one], value
        took_s = time.monotonic() - began
    return found


def _taste(
    run: Run, data: TrialData, members: Sequence[Kept], device: torch.device, left_s: Callable[[], float]
) -> Evaluation:
    config = members[0].config
    classes, labels, _ = what_to_learn(config, data)
    files = [weights_of(run, one.trial_id, one.epoch) for one in members]
    model = model_with(mean_weights(files), config, len(classes), device, files[0])

    def stop() -> str | None:
        return None if left_s() > 0 else "the budget is spent"

    return evaluate(config, [model], data, labels, device, stop=stop)
