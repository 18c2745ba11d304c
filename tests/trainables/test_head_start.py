"""Heads that begin as a probe of the untouched backbone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from trainables.checkpoint import TrialFiles, load_state
from trainables.config.trial import TrialConfig
from trainables.data.cache import CachedImages
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.features import features, head_start
from trainables.features.head_start import balanced_draw
from trainables.features.solved_head import solve_head
from trainables.loop import EpochResult, fit
from trainables.losses import build_loss
from trainables.models.build import build_model
from trainables.models.classifiers import Classifier
from trainables.targets import classes_and_labels
from visionsweep.core.errors import ConfigError, Contradiction, Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
PROBE = {"head_init": "probe"}
CE = {"name": "cross_entropy"}
STILL = {"name": "sgd", "lr": 1e-12}  # what an epoch begins with is what it ends with
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]


def of_task(data: TrialData, task: str) -> TrialData:
    """Digits as another task's data: odd or not, or with two tags."""
    digits = data.dataset.targets
    if task == "binary":
        return TrialData(replace(data.dataset, task=task, classes=("even", "odd"), targets=digits % 2), data.images)
    if task == "multilabel":
        tags = np.stack([digits % 2, digits > 4], axis=1).astype(np.uint8)
        return TrialData(replace(data.dataset, task=task, classes=("odd", "large"), targets=tags), data.images)
    return data


def solved_by_hand(config: TrialConfig, data: TrialData) -> Tensor:
    """Return the weights of the head that fits the features of the network's own view of the training images."""
    classes, labels, targets = classes_and_labels(config, data)
    torch.manual_seed(config.seed)
    model = build_model(config.model, labels.shape[1], config.image_size).to(memory_format=torch.channels_last)
    assert isinstance(model, Classifier)
    rows = data.dataset.indices("train")
    source = features.FrozenBackbone(config, model.eval(), data, CPU, 0, lambda: None)
    loss = build_loss(config, targets, len(classes))
    found = solve_head(
        source.of_images(rows), labels[torch.from_numpy(rows)], loss, labels.shape[1], l2=None, seed=config.seed
    )
    return found.weight


def head_of(result: EpochResult) -> Tensor:
    return result.state.weights.get_submodule("head").get_parameter("1.weight").detach()


@pytest.mark.parametrize(
    "changed",
    [
        {"model": {"freeze": "none"}},
        {"model": {"freeze": "stage2", "batch_norm": "fixed", "head": {"name": "linear", "dropout": 0.3}}},
        {"model": {"freeze": "all"}, "views": 4, "augment": {"rotate": {"degrees": 20.0, "p": 1.0}}},
        {"precision": "bf16", "ema_decay": 0.99},
        {"loss": {"name": "cross_entropy", "class_weights": "inverse_frequency"}, "augment": {"mix": {"name": "mixup"}}},
        {"task": "binary"},
        {"task": "multilabel", "loss": {"name": "bce", "pos_weight": "balanced"}},
        {"task": "multilabel", "loss": {"name": "focal"}, "accumulate": 2},
    ],
    ids=["all", "stages", "views", "bf16", "weights", "binary", "tags", "focal"],
)  # fmt: skip
def test_a_training_begins_with_the_head_that_fits_the_untouched_backbone(
    digits: Digits, tiny: Tiny, changed: dict[str, Any]
) -> None:
    config = tiny(**{**changed, "model": {**PROBE, **changed.get("model", {})}, "optimizer": STILL})
    data = of_task(digits(train=64), config.task)
    (result,) = fit(config, data, CPU)
    torch.testing.assert_close(head_of(result), solved_by_hand(config, data), rtol=0, atol=1e-6)


def test_a_fine_tuning_from_a_probe_is_ahead_after_its_first_epoch(digits: Digits, tiny: Tiny) -> None:
    optimizer = {"name": "adamw", "lr": 1e-5}
    from_probe, from_random = (
        next(fit(tiny(model={"head_init": start, "batch_norm": "fixed"}, optimizer=optimizer), digits(train=300), CPU))
        for start in ("probe", "random")
    )
    assert from_probe.metrics["val/accuracy"] > from_random.metrics["val/accuracy"] + 0.3


def test_a_loss_that_adds_up_images_has_the_head_of_their_mean(digits: Digits, tiny: Tiny) -> None:
    mean, summed = (
        head_of(next(fit(tiny(model=PROBE, optimizer=STILL, loss={**CE, "reduction": name}), digits(), CPU)))
        for name in ("mean", "sum")
    )
    torch.testing.assert_close(mean, summed, rtol=0, atol=1e-4)


def test_a_resumed_training_keeps_its_head_and_is_the_same_to_the_last_bit(
    digits: Digits, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = {"name": "adamw", "lr": 1e-4}
    config = tiny(model={**PROBE, "batch_norm": "fixed"}, epochs=3, ema_decay=0.9, optimizer=optimizer)
    data = digits(train=50)
    files = TrialFiles(tmp_path / "checkpoints/t1", tmp_path / "predictions/t1", "val/accuracy", "max", 1)
    straight = list(fit(config, data, CPU))
    stopped = fit(config, data, CPU)
    files.save(next(stopped), resumable=True)
    stopped.close()
    monkeypatch.setattr(head_start, "solve_head", _refuse)
    resumed = list(fit(config, data, CPU, resume=load_state(files.last)))
    assert [result.metrics for result in resumed] == [result.metrics for result in straight[1:]]
    assert torch.equal(head_of(resumed[-1]), head_of(straight[-1]))


def _refuse(*args: object, **options: object) -> None:
    raise AssertionError("it was computed again")


def test_what_a_probe_has_computed_is_not_computed_again(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, images = load_dataset("digits", short_side_px=32, cache_dir=tmp_path / "cache")
    split = np.array(
        ["train"] * 40 + ["val"] * 8 + ["duplicate"] * (len(dataset.split) - 48), dtype=dataset.split.dtype
    )
    data = TrialData(replace(dataset, split=split), images)
    weights = tmp_path / "weights.safetensors"
    save_file(build_model(tiny().model, 10, 32).state_dict(), weights)
    probe = tiny(model={"freeze": "all", "weights": str(weights)}, views=1)
    list(fit(probe, data, CPU))
    assert isinstance(data.images, CachedImages)
    kept = sorted(path.name for path in data.images.place.folder("features").iterdir())
    monkeypatch.setattr(features, "features_of", _refuse)
    list(fit(tiny(model={**PROBE, "weights": str(weights)}, seed=3, batch_size=32), data, CPU))
    assert sorted(path.name for path in data.images.place.folder("features").iterdir()) == kept


def test_of_many_images_a_bounded_number_is_looked_at(
    digits: Digits, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    compute = features.features_of
    monkeypatch.setattr(head_start, "MOST_IMAGES", 30)
    monkeypatch.setattr(features, "features_of", lambda *args: (seen.append(len(args[2])), compute(*args))[1])
    next(fit(tiny(model=PROBE), digits(train=96), CPU))
    assert sum(seen) == 30


def test_the_head_is_part_of_the_first_epochs_time(digits: Digits, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return solve_head(*args, **options)

    monkeypatch.setattr(head_start, "solve_head", slow)
    (first, second) = fit(tiny(model=PROBE, epochs=2), digits(), CPU)
    assert first.seconds > 0.3
    assert second.images_per_s > first.images_per_s


@pytest.mark.parametrize("asked_before", [3, 8], ids=["features", "solution"])
def test_a_training_can_be_stopped_while_its_head_is_solved(digits: Digits, tiny: Tiny, asked_before: int) -> None:
    asked = 0

    def stop() -> str | None:
        nonlocal asked
        asked += 1
        return "the budget is spent" if asked == asked_before else None

    with pytest.raises(Interrupted, match=r"the budget is spent \(during epoch 1\)"):
        next(fit(tiny(model=PROBE, optimizer=STILL, seed=asked_before), digits(), CPU, should_stop=stop))
    assert asked == asked_before


def test_another_head_than_a_linear_one_and_a_decoder_have_no_probe(tiny: Tiny) -> None:
    with pytest.raises(Contradiction) as caught:
        tiny(model={**PROBE, "head": {"name": "mish_mlp"}})
    assert "head_init probe solves a linear head, not 'mish_mlp': set head_init=random" in str(caught.value)
    with pytest.raises(ConfigError, match=r"unknown key 'model\.head_init'"):
        tiny(task="segmentation", model={**PROBE, "architecture": {"name": "unet"}})


def test_a_draw_gives_rare_classes_as_much_as_the_others() -> None:
    numbers = np.repeat([0, 1, 2], [900, 80, 20])
    rows = balanced_draw(numbers, 120, seed=0)
    assert np.bincount(numbers[rows]).tolist() == [50, 50, 20]
    assert rows.tolist() == sorted(set(rows.tolist()))
    tags = np.zeros((1000, 2), np.uint8)
    tags[:500, 0], tags[490:510, 1] = 1, 1
    drawn = balanced_draw(tags, 60, seed=0)  # the second tag's 20, and as many of the first and of none
    assert set(range(490, 510)) <= set(drawn.tolist())
    assert 10 <= (tags[drawn].sum(axis=1) == 0).sum() <= 30


def test_a_draw_is_all_where_there_are_few_and_another_for_another_seed() -> None:
    labels = np.zeros(50, np.int64)
    assert balanced_draw(labels, 50, seed=0).tolist() == list(range(50))
    assert balanced_draw(labels, 10, seed=0).tolist() == balanced_draw(labels, 10, seed=0).tolist()
    assert balanced_draw(labels, 10, seed=0).tolist() != balanced_draw(labels, 10, seed=1).tolist()
