"""Begin a fine-tuning with the head of a probe, solved on the features of the untouched backbone.

Gradients of a random head distort the backbone's features before the head has learnt anything. This is linear probing,
then fine-tuning (LP-FT): Kumar et al. 2022, "Fine-tuning can distort pretrained features and underperform
out-of-distribution" (arXiv:2202.10054).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.config.model import ClassifierConfig
from trainables.config.trial import TrialConfig
from trainables.data.loader import Labels, TrialData
from trainables.device import exact_place
from trainables.features.features import FrozenBackbone
from trainables.features.solved_head import solve_head
from trainables.losses import Loss, loss_on
from trainables.models.classifiers import Classifier
from trainables.state import TrainState

# Most images that a head is solved on. It has a few thousand weights an output and is only a start, so that more images
# change it little. Forward passes of so many are a small part of a larger epoch.
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
    """Initialise the head of a fresh state as `model.head_init` says. `random` leaves it unchanged.

    labels       (N, K) float of the whole data set
    loss         that the head is solved for, with its class weights
    num_workers  loader processes
    ask          called before every batch and every pass over the features, raises to stop
    """
    if not isinstance(config.model, ClassifierConfig) or config.model.head_init == "random":
        return
    model = state.model
    assert isinstance(model, Classifier)
    assert isinstance(labels, Tensor)
    train = data.dataset.indices("train")
    # Draw the images. There are no more than an epoch has: a start must not cost more than what it starts.
    most = min(MOST_IMAGES, config.epoch_images or MOST_IMAGES)
    images = train[balanced_draw(data.dataset.targets[train], most, config.seed)]
    exact = exact_place(device)
    loss_there = loss_on(loss, exact)
    targets = labels[torch.from_numpy(images)].to(exact)

    # Solve the head on features as in evaluation, for the mean loss.
    model.eval()
    untouched = FrozenBackbone(config, model, data, device, num_workers, ask)
    features = untouched.of_images(images).to(exact)
    summed = getattr(config.loss, "reduction", "mean") == "sum"
    solved = solve_head(
        features,
        targets,
        (lambda logits, wanted: loss_there(logits, wanted) / len(wanted)) if summed else loss_there,
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
    """Return at most `most` rows, ascending. The classes give one row each in turn, as long as they have any.

    targets  (N,) int, or (N, C) of 0 and 1; rows without any label are a class too
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
    """Yield (N,) bool for each class, true for its rows."""
    if targets.ndim == 1:
        yield from (targets == number for number in np.unique(targets))
        return
    yield from (np.asarray(column > 0) for column in targets.T)
    yield np.asarray(~targets.any(axis=1))
