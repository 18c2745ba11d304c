"""Epochs of `epoch_images`: pieces of one stream over the training set, the same however they are resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.checkpoint import TrialFiles, load_state
from trainables.config.trial import TrialConfig
from trainables.data.formats import load_dataset
from trainables.data.images import Images
from trainables.data.loader import TrialData
from trainables.data.order import epoch_size, piece_of_stream
from trainables.data.stratify import stratified_draw
from trainables.features.features import images_learnt
from trainables.loop import fit
from visionsweep.core.errors import Contradiction

CPU = torch.device("cpu")
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]
PROBE: dict[str, Any] = {
    "model": {"freeze": "all", "head": {"name": "linear", "dropout": 0.0}},
    "optimizer": {"name": "lbfgs"},
    "views": 1,
}

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Asked:
    """Images that remember which of them were asked for."""

    images: Images
    seen: list[int]

    @property
    def bad(self) -> Any:
        return self.images.bad

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        self.seen.append(index)
        return self.images[index]

    def mask(self, index: int) -> Any:
        return self.images.mask(index)

    def at(self, view: Any, indices: Any) -> Images:
        self.seen += indices.tolist()
        return self.images.at(view, indices)


def asked_in(config: TrialConfig, data: TrialData) -> list[list[int]]:
    """Return the training images that each epoch has read."""
    watched = Asked(data.images, [])
    found = list[list[int]]()
    train = set(data.dataset.indices("train").tolist())
    for _ in fit(config, TrialData(data.dataset, watched), CPU):
        found.append([index for index in watched.seen if index in train])
        watched.seen.clear()
    return found


def test_epochs_go_on_through_the_training_set_and_meet_every_image(digits: Digits, tiny: Tiny) -> None:
    data = digits(train=64)
    epochs = asked_in(tiny(epochs=8, epoch_images=16), data)
    assert [len(of_epoch) for of_epoch in epochs] == [16] * 8
    train = set(data.dataset.indices("train").tolist())
    first = list(chain(*epochs[:4]))
    second = list(chain(*epochs[4:]))
    assert set(first) == set(second) == train
    assert first != second


def test_an_epoch_goes_over_the_end_of_a_pass(digits: Digits, tiny: Tiny) -> None:
    data = digits(train=40)
    counts = Counter(chain(*asked_in(tiny(epochs=5, epoch_images=24), data)))
    assert set(counts) == set(data.dataset.indices("train").tolist())
    assert set(counts.values()) == {3}


def test_no_image_is_passed_over_where_a_single_one_is_left_of_an_epoch(tiny: Tiny) -> None:
    config = tiny(epoch_images=17)  # of which 16 are used
    drawn = [draw for epoch in range(4) for batch in piece_of_stream(config, 64, epoch) or [] for draw in batch]
    assert sorted(drawn) == list(range(64))


def test_repeat_and_accumulate_count_as_in_whole_epochs(digits: Digits, tiny: Tiny) -> None:
    data = digits(train=32)
    config = tiny(epochs=2, epoch_images=32, repeat=2, accumulate=2, batch_size=8)
    assert set(Counter(chain(*asked_in(config, data))).values()) == {2}
    steps = [result.state.num_steps for result in fit(config, data, CPU)]
    assert steps == [2, 4]


@pytest.mark.parametrize("epoch_images", [64, 1000])
def test_a_number_that_the_set_does_not_reach_changes_nothing(digits: Digits, tiny: Tiny, epoch_images: int) -> None:
    data = digits(train=64)
    *_, plain = fit(tiny(epochs=2), data, CPU)
    *_, capped = fit(tiny(epochs=2, epoch_images=epoch_images), data, CPU)
    assert plain.metrics == capped.metrics
    for name, tensor in plain.state.model.state_dict().items():
        assert torch.equal(capped.state.model.state_dict()[name], tensor), name


def test_a_resumed_training_is_the_same_training(digits: Digits, tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(epochs=5, epoch_images=24, augment={"horizontal_flip": {"p": 0.5}})
    data = digits(train=40)
    *_, whole = fit(config, data, CPU)
    files = TrialFiles(tmp_path, tmp_path, "val/accuracy", "max", 1, 1, None)
    begun = fit(config, data, CPU)
    for _ in range(2):
        files.save(next(begun), resumable=True)
    *_, resumed = fit(config, data, CPU, resume=load_state(files.last), num_workers=2)
    assert resumed.metrics == whole.metrics
    for name, tensor in whole.state.model.state_dict().items():
        assert torch.equal(resumed.state.model.state_dict()[name], tensor), name


def test_segmenters_too_train_on_pieces(tmp_path: Path) -> None:
    from trainables.config.io import parse_config

    dataset, images = load_dataset("digits:segmentation", short_side_px=32, cache_dir=tmp_path)
    config = parse_config(
        {
            "task": "segmentation",
            "model": {"architecture": {"name": "unet"}, "backbone": "test_resnet", "weights": "none"},
            "optimizer": {"name": "sgd", "lr": 0.01},
            "epochs": 2, "batch_size": 4, "image_size": 32, "epoch_images": 8,
        },
        "a test",
    )  # fmt: skip
    trained = asked_in(config, TrialData(dataset, images))
    assert [len(of_epoch) for of_epoch in trained] == [8, 8]
    assert not set(trained[0]) & set(trained[1])


def test_a_probe_looks_at_so_many_images_of_every_class_and_always_the_same(loaded: Digits, tiny: Tiny) -> None:
    data = loaded(train=200)
    config = tiny(**PROBE, epoch_images=50)
    chosen = images_learnt(config, data.dataset, "train")
    assert len(chosen) == 50
    assert set(data.dataset.targets[chosen]) == set(range(10))
    assert set(asked_in(config, data)[0]) == set(chosen.tolist())
    other = tiny(**{**PROBE, "optimizer": {"name": "lbfgs", "l2": 0.1}}, epoch_images=50, fit_image="crop")
    assert (images_learnt(other, data.dataset, "train") == chosen).all()


def test_a_head_on_kept_features_trains_on_so_many_images(loaded: Digits, tiny: Tiny) -> None:
    config = tiny(model={"freeze": "all"}, views=2, epoch_images=40, epochs=2)
    assert [result.state.num_steps for result in fit(config, loaded(train=64), CPU)] == [3, 6]
    assert epoch_size(config, 64) == 40


def test_a_batch_larger_than_an_epoch_is_refused_in_words(tiny: Tiny) -> None:
    with pytest.raises(Contradiction, match="epoch_images 8 must be at least batch_size 16: set a smaller batch_size"):
        tiny(epoch_images=8)
    assert tiny(**PROBE, epoch_images=8).epoch_images == 8  # which trains on no batches


def test_a_draw_of_a_long_tail_has_every_class_and_its_share() -> None:
    targets = np.repeat([0, 1, 2], [9000, 990, 10])
    found = np.bincount(targets[stratified_draw(targets, 200, seed=0)])
    assert found.sum() == 200
    assert found[2] == 1 or found[2] == 2
    assert 18 <= found[1] <= 21
    tags = np.zeros((5000, 3), np.uint8)
    tags[:10, 0] = 1
    tags[:2500, 1] = 1
    drawn = stratified_draw(tags, 100, seed=1)
    assert len(set(drawn.tolist())) == 100
    assert tags[drawn, 0].sum() >= 1
    assert 45 <= tags[drawn, 1].sum() <= 60
    assert (stratified_draw(tags, 100, seed=1) == drawn).all()
    assert (stratified_draw(tags, 100, seed=2) != drawn).any()
    assert (stratified_draw(targets, 100_000, seed=0) == np.arange(10_000)).all()
