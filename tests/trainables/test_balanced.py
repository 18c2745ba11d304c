"""`sampling: balanced`: every class is drawn equally often, and every image of a class too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.balanced import balanced_draws
from trainables.data.loader import TrialData
from trainables.features.features import frozen_backbone
from trainables.loop import fit
from trainables.state import build_state
from visionsweep.core.errors import Contradiction

CPU = torch.device("cpu")
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]

pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(draws: list[list[int]] | None, num_images: int) -> list[int]:
    assert draws is not None
    return [draw % num_images for draw in chain(*draws)]


def test_every_class_is_drawn_equally_often_and_every_image_of_it_too(tiny: Tiny) -> None:
    config = tiny(sampling="balanced", batch_size=8)
    classes = torch.tensor([0] * 40 + [1] * 6 + [3] * 2)
    targets = torch.nn.functional.one_hot(classes, 4).float()
    epochs = [rows_of(balanced_draws(config, targets, epoch), 48) for epoch in range(10)]
    for rows in epochs:
        assert len(rows) == 48  # as long as without balance
        assert Counter(classes[rows].tolist()) == {0: 16, 1: 16, 3: 16}
    assert epochs[0] != epochs[1]
    seen = Counter(chain(*epochs))
    for of_class in (range(40), range(40, 46), range(46, 48)):  # also the large class, of which an epoch sees a part
        counts = [seen[row] for row in of_class]
        assert max(counts) - min(counts) <= 1
    again = balanced_draws(config, targets, 7)
    assert rows_of(again, 48) == epochs[7]  # a resumed training draws the same


def test_two_classes_of_one_output_are_balanced_and_places_that_do_not_divide_are_dealt_in_turn(tiny: Tiny) -> None:
    config = tiny(task="binary", sampling="balanced", batch_size=4, epoch_images=7)
    targets = (torch.arange(20) < 2).float()[:, None]
    counts = Counter[bool]()
    for epoch in range(6):
        rows = rows_of(balanced_draws(config, targets, epoch), 20)
        assert abs(sum(row < 2 for row in rows) - len(rows) / 2) <= 0.5
        counts.update(row < 2 for row in rows)
    assert counts[True] == counts[False]


def test_images_of_rare_tags_are_drawn_by_one_over_their_frequency(tiny: Tiny) -> None:
    config = tiny(task="multilabel", sampling="balanced", batch_size=100)
    tags = torch.zeros(1000, 3)
    tags[:, 0] = 1
    tags[:50, 1] = 1
    tags[:10, 2] = 1
    tags[900:] = 0  # no tag at all
    seen = Counter(row for epoch in range(20) for row in rows_of(balanced_draws(config, tags, epoch), 1000))
    mean = [
        np.mean([seen[row] for row in part]) for part in (range(10), range(10, 50), range(50, 900), range(900, 1000))
    ]
    # Weights 1/10, 1/50, 1/900 and 1/100.
    assert mean[0] / mean[1] == pytest.approx(5, rel=0.15)
    assert mean[1] / mean[2] == pytest.approx(18, rel=0.15)
    assert mean[3] / mean[2] == pytest.approx(9, rel=0.15)


def few_but_ones(data: TrialData) -> TrialData:
    """Return digits of which nearly all training images are ones."""
    split = data.dataset.split.copy()
    others = np.flatnonzero((split == "train") & (data.dataset.targets != 1))
    split[others[12:]] = "duplicate"
    return TrialData(replace(data.dataset, split=split), data.images)


def test_a_training_on_few_of_a_class_finds_more_of_it_when_balanced(digits: Digits, tiny: Tiny) -> None:
    data = few_but_ones(digits(train=200, val=120))
    scores = {}
    for sampling in ("uniform", "balanced"):
        *_, last = fit(tiny(sampling=sampling, epochs=6, batch_size=8), data, CPU)
        scores[sampling] = last.metrics["val/balanced_accuracy"]
    assert scores["balanced"] > scores["uniform"]


def test_a_head_on_kept_features_sees_every_class_equally_often(digits: Digits, tiny: Tiny) -> None:
    data = few_but_ones(digits(train=200))
    config = tiny(sampling="balanced", batch_size=8, views=1, model={"freeze": "all"})
    frozen = frozen_backbone(config, build_state(config, 10, CPU).model, data, CPU)
    assert frozen is not None
    labels = torch.nn.functional.one_hot(torch.as_tensor(data.dataset.targets), 10).float()
    seen = torch.cat([targets for _, targets in frozen.batches(labels, epoch=0, seed=3)]).sum(dim=0)
    seen = seen[seen > 0]
    assert len(seen) > 4
    assert seen.max() - seen.min() <= 1


def test_where_balance_means_nothing_it_is_refused() -> None:
    probe = {
        "task": "multiclass",
        "model": {"backbone": "test_resnet", "weights": "none", "freeze": "all", "head": {"name": "linear"}},
        "optimizer": {"name": "lbfgs"},
        "views": 1,
        "epochs": 1,
        "batch_size": 8,
        "sampling": "balanced",
    }
    with pytest.raises(Contradiction, match=r"from every image once, and sampling is balanced: set sampling=uniform"):
        parse_config(probe)
    masks = {
        "task": "segmentation",
        "model": {"architecture": {"name": "unet"}, "backbone": "test_resnet", "weights": "none"},
        "optimizer": {"name": "sgd", "lr": 0.01},
        "epochs": 1,
        "batch_size": 8,
        "sampling": "balanced",
    }
    with pytest.raises(Contradiction, match="'sampling' means nothing to task 'segmentation'"):
        parse_config(masks)
