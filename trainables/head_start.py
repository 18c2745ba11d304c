"""Begin a fine-tuning with the head of a probe: the one that fits the features of the untouched backbone best.

A random head's gradients spoil what the backbone knows before the head has learnt anything. Kumar et al. 2022,
"Fine-tuning can distort pretrained features and underperform out-of-distribution" (arXiv:2202.10054): linear probing,
then fine-tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.config_model import ClassifierConfig
from trainables.data.loader import Labels, TrialData
from trainables.features import FrozenBackbone
from trainables.losses import Loss
from trainables.models.classifiers import Classifier
from trainables.solved_head import solve_head
from trainables.state import TrainState

# Images that a head is solved on. It has a few thousand weights an output, and is a beginning: more images change it
# little, and the forward passes of so many are a small part of an epoch that has more.
MOST_IMAGES = 5000


def start_head(
    config: TrialConfig,
    state: TrainState,
    data: TrialData,
    labels: Labels,
    loss: Loss,
    device: torch.device,
    *,
    num_workers: int = 0,
    ask: Callable[[], None] = lambda: None,
) -> None:
    """Set the head of a fresh state to where `model.head_init` has it begin; `random` leaves it as it was drawn.

    labels   (N, K) float of the whole data set
    loss     what the head is solved for, its class weights included
    ask      called before every batch and every pass over the features, raises to stop
    """
    if not isinstance(config.model, ClassifierConfig) or config.model.head_init == "random":
        return
    model = state.model
    assert isinstance(model, Classifier)
    assert isinstance(labels, Tensor)
    train = data.dataset.indices("train")
    most = min(MOST_IMAGES, config.epoch_images or MOST_IMAGES)  # a beginning is no longer than what it begins
    images = train[balanced_draw(data.dataset.targets[train], most, config.seed)]
    targets = labels[torch.from_numpy(images)].to(device)

    model.eval()  # the features are those that the model is judged by
    untouched = FrozenBackbone(config, model, data, device, num_workers, ask)
    features = untouched.of_images(images).to(device)
    summed = getattr(config.loss, "reduction", "mean") == "sum"
    solved = solve_head(
        features,
        targets,
        (lambda logits, wanted: loss(logits, wanted) / len(wanted)) if summed else loss,
        targets.shape[1],
        l2=None,
        seed=config.seed,
        widths=untouched.widths,
        ask=ask,
    )
    solved.put_into(model.head)
    if state.ema is not None:
        state.ema.set(model)  # its average began at the random head


def balanced_draw(targets: npt.NDArray[Any], most: int, seed: int) -> npt.NDArray[np.int64]:
    """Return at most so many rows, in their order: the classes give one each in turn, as long as they have any.

    targets  (N,) int, or (N, C) of 0 and 1, where rows without any label are a class too
    """
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.random.default_rng(seed).permutation(len(targets))
    turn = np.full(len(order), len(order))  # in which turn one of its classes gives the row
    for members in _members(targets[order]):
        (places,) = np.nonzero(members)
        turn[places] = np.minimum(turn[places], np.arange(len(places)))
    return np.sort(order[np.argsort(turn, kind="stable")[:most]])


def _members(targets: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.bool_]]:
    """(N,) for each class: which rows are of it."""
    if targets.ndim == 1:
        yield from (targets == number for number in np.unique(targets))
        return
    yield from (np.asarray(column > 0) for column in targets.T)
    yield np.asarray(~targets.any(axis=1))
