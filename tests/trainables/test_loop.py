"""fit() on real digits with tiny networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainables import loop
from trainables.config.trial import TrialConfig
from trainables.data.cache import Images
from trainables.data.loader import TrialData
from trainables.data.view import View
from trainables.loop import EpochResult, fit
from trainables.models.classifiers import Classifier, build_classifier
from trainables.schedules import lr_factor
from trainables.tasks import LABEL_TASKS, score
from visionsweep.core.errors import ConfigError, DataError, Diverged, Interrupted
from visionsweep.core.names import COSTS

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
AUGMENT = {
    "rotate": {"degrees": 10.0},
    "random_resized_crop": {"scale_min": 0.6},
    "tone": {},
    "policy": {"name": "randaugment"},
    "coarse_dropout": {"hole_px": 4},
}
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]


def trained(config: TrialConfig, data: TrialData, **options: Any) -> list[EpochResult]:
    return list(fit(config, data, CPU, **options))


def metrics(results: list[EpochResult]) -> list[dict[str, float]]:
    return [result.metrics for result in results]


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def fresh(config: TrialConfig) -> Classifier:
    """The model as fit() builds it, before any training."""
    torch.manual_seed(config.seed)
    return build_classifier(config.model, 10, config.image_size)


class Recorded:
    """Images that remember which of them were asked for."""

    def __init__(self, data: TrialData) -> None:
        self.images, self.asked, self.bad = data.images, list[int](), data.images.bad

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:
        self.asked.append(index)
        return self.images[index]

    def at(self, view: View, indices: np.ndarray) -> Images:
        return self.images.at(view, indices)


def test_training_learns_digits(digits: Digits, tiny: Tiny) -> None:
    optimizer = {"name": "adam", "lr": 0.01}
    results = trained(tiny(epochs=8, optimizer=optimizer), digits(train=200))
    assert results[-1].metrics["val/accuracy"] > 0.5  # a guess is right one time in ten
    assert results[-1].metrics["train/loss"] < results[0].metrics["train/loss"] / 2


def test_every_epoch_is_yielded_with_all_that_is_known_of_it(digits: Digits, tiny: Tiny) -> None:
    config = tiny(epochs=3)
    data = digits()
    results = trained(config, data)
    assert [result.epoch for result in results] == [1, 2, 3]
    assert [result.last for result in results] == [False, False, True]
    assert [result.reason for result in results] == ["", "", ""]
    for result in results:
        assert result.predictions["logits"].shape == (40, 10)
        assert result.predictions["logits"].dtype == np.float32
        assert min(result.seconds, result.images_per_s, result.peak_memory_mb, result.latency_ms) > 0
        assert result.parameters == sum(weights.numel() for weights in result.state.model.parameters())
        assert set(result.row()) == {"epoch", "metrics", "seconds", "images_per_s", "lr", *COSTS}
        # The rate of the epoch's last step: the schedule moves with the steps, four an epoch here.
        assert result.lr == pytest.approx(0.05 * lr_factor(config.schedule, result.epoch - 0.25, 3))


def test_the_metrics_are_those_of_the_logits_in_the_order_of_the_split(digits: Digits, tiny: Tiny) -> None:
    data = digits(val=37)  # not a multiple of the batch
    odd = replace(data.dataset, task="binary", classes=("even", "odd"), targets=data.dataset.targets % 2)
    targets = LABEL_TASKS["binary"].encode(odd.targets[odd.indices("val")], 2)
    threshold = 0.01
    recalls = []
    for _ in range(2):
        result = trained(tiny(task="binary", threshold=threshold), TrialData(odd, data.images))[-1]
        values = {name.removeprefix("val/"): v for name, v in result.metrics.items() if name.startswith("val/")}
        assert values == score("binary", torch.from_numpy(result.predictions["logits"]), targets, 2, threshold)
        recalls.append(values["recall"])
        threshold = float(np.median(1 / (1 + np.exp(-result.predictions["logits"]))))  # half of the images lie above it
    assert 0 < recalls[1] < recalls[0] == 1


def test_the_same_seed_gives_the_same_training_and_another_gives_another(digits: Digits, tiny: Tiny) -> None:
    changed = {"epochs": 2, "augment": AUGMENT, "model": {"head": {"name": "linear", "dropout": 0.3}}}
    one = trained(tiny(**changed), digits())
    two = trained(tiny(**changed), digits())
    assert metrics(one) == metrics(two)
    assert (one[-1].predictions["logits"] == two[-1].predictions["logits"]).all()
    assert metrics(trained(tiny(**changed, seed=1), digits())) != metrics(one)


def test_loader_processes_give_the_same_training_each_time(digits: Digits, tiny: Tiny) -> None:
    config = tiny(epochs=2, augment=AUGMENT)
    data = digits()
    one = metrics(trained(config, data, num_workers=2))
    assert metrics(trained(config, data, num_workers=2)) == one


@pytest.mark.parametrize("num_images", [16, 28], ids=["one whole group", "a smaller last group"])
@pytest.mark.parametrize("clip_grad_norm", [None, 0.1])
def test_accumulated_batches_are_one_large_batch(
    digits: Digits, tiny: Tiny, num_images: int, clip_grad_norm: float | None
) -> None:
    """On a network without batch norm, whose statistics are those of the small batches."""
    data = digits(train=num_images)
    changed = {"backbone": "test_convnext", "clip_grad_norm": clip_grad_norm}
    large = trained(tiny(**changed, batch_size=16), data)[-1]
    small = trained(tiny(**changed, batch_size=8, accumulate=2), data)[-1]
    assert small.state.num_steps == large.state.num_steps == math.ceil(num_images / 16)
    assert small.metrics["train/loss"] == pytest.approx(large.metrics["train/loss"], rel=1e-5)
    assert small.lr == large.lr
    before = weights(fresh(tiny(**changed)))
    for name, tensor in weights(large.state.model).items():
        assert torch.allclose(small.state.model.state_dict()[name], tensor, atol=2e-6), name
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(large.state.model).items())


@pytest.mark.parametrize(("num_images", "num_used"), [(17, 16), (18, 18), (16, 16), (33, 32)])
def test_a_single_image_left_over_is_not_trained_on(digits: Digits, tiny: Tiny, num_images: int, num_used: int) -> None:
    data = digits(train=num_images, val=3)
    images = Recorded(data)
    result = trained(tiny(), TrialData(data.dataset, images))[0]
    train = set(data.dataset.indices("train"))
    assert len([index for index in images.asked if index in train]) == num_used
    assert result.state.num_steps == math.ceil(num_used / 16)


def test_another_image_is_left_over_in_every_epoch(digits: Digits, tiny: Tiny) -> None:
    data = digits(train=17, val=3)
    images = Recorded(data)
    left_over = []
    for _ in fit(tiny(epochs=4), TrialData(data.dataset, images), CPU):
        left_over.append(set(data.dataset.indices("train")) - set(images.asked))
        images.asked.clear()
    assert [len(some) for some in left_over] == [1, 1, 1, 1]
    assert len(set().union(*left_over)) > 1


def test_a_batch_larger_than_the_training_set_is_refused_before_anything_is_built(digits: Digits, tiny: Tiny) -> None:
    with pytest.raises(DataError) as caught:
        trained(tiny(batch_size=65), digits(train=64))
    assert str(caught.value) == (
        "batch_size 65 is larger than the training set of 64 images. Set batch_size to 64 or less."
    )
    assert trained(tiny(batch_size=64), digits(train=64))


def test_nothing_happens_before_the_first_epoch_is_asked_for(digits: Digits, tiny: Tiny) -> None:
    epochs = fit(tiny(backbone="resnet43"), digits(), CPU)
    with pytest.raises(ConfigError, match=r"^unknown backbone 'resnet43'\. Did you mean 'resnet34'\?"):
        next(epochs)


def loss_that_fails_at(call: int, value: float) -> Callable[..., nn.Module]:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = count(1)

        def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return logits.square().mean() * (value if next(self.calls) == call else 1.0)

    return lambda *_: Failing()


@pytest.mark.parametrize(
    ("call", "accumulate", "value", "epoch", "step"),
    [
        (1, 1, math.nan, 1, 0),
        (2, 1, math.nan, 1, 1),
        (4, 1, math.inf, 1, 3),
        (6, 1, math.nan, 2, 1),
        (4, 2, math.nan, 1, 1),
    ],
)
def test_a_loss_that_is_not_finite_ends_the_trial_with_epoch_step_and_rate(
    digits: Digits, tiny: Tiny, monkeypatch: pytest.MonkeyPatch,
    call: int, accumulate: int, value: float, epoch: int, step: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(loop, "build_loss", loss_that_fails_at(call, value))
    config = tiny(epochs=3, accumulate=accumulate, schedule={"name": "constant"})
    with pytest.raises(Diverged) as caught:
        trained(config, digits(train=64))
    assert str(caught.value) == (
        f"the loss became {value} at epoch {epoch}, step {step}, learning rate 0.05. "
        "A lower learning rate, warm-up or gradient clipping may help."
    )
    assert (caught.value.epoch, caught.value.step, caught.value.lr) == (epoch, step, 0.05)


def test_an_absurd_learning_rate_diverges(digits: Digits, tiny: Tiny) -> None:
    optimizer = {"name": "sgd", "lr": 100.0, "momentum": 0.99}
    with pytest.raises(Diverged, match=r"^the loss became (nan|inf) at epoch \d+, step \d+, learning rate \d"):
        trained(tiny(backbone="test_convnext", epochs=20, optimizer=optimizer), digits())


@pytest.mark.parametrize("num_batches", [0, 3, 5])  # an epoch has four to train on and two to judge by
def test_a_training_that_is_asked_to_stop_does_so_at_the_next_batch(
    digits: Digits, tiny: Tiny, num_batches: int
) -> None:
    asked = count()
    with pytest.raises(Interrupted) as caught:
        trained(tiny(), digits(), should_stop=lambda: "enough" if next(asked) == num_batches else None)
    assert str(caught.value) == "enough (during epoch 1)"
    assert next(asked) == num_batches + 1


def test_epochs_before_a_stop_are_kept(digits: Digits, tiny: Tiny) -> None:
    asked = count()
    epochs = fit(tiny(epochs=5), digits(), CPU, should_stop=lambda: "enough" if next(asked) > 7 else None)
    assert next(epochs).epoch == 1
    with pytest.raises(Interrupted, match=r"^enough \(during epoch 2\)$"):
        next(epochs)


def test_a_training_without_gain_stops_early_and_says_why(digits: Digits, tiny: Tiny) -> None:
    config = tiny(
        epochs=9, model={"freeze": "all"}, optimizer={"name": "sgd", "lr": 1e-12},
        early_stopping_patience=2, early_stopping_metric="val/accuracy",
    )  # fmt: skip
    results = trained(config, digits())
    assert [result.last for result in results] == [False, False, True]
    assert results[-1].reason == "early stopping: no better val/accuracy for 2 epochs"


@pytest.mark.parametrize(("metric", "better"), [("val/loss", min), ("val/accuracy", max)])
def test_a_training_goes_on_as_long_as_its_metric_gains(
    digits: Digits, tiny: Tiny, metric: str, better: Callable[..., float]
) -> None:
    """A loss gains by falling, a score by rising."""
    values = [result.metrics[metric] for result in trained(tiny(epochs=8), digits())]
    gains = [epoch for epoch in range(1, 8) if better(values[: epoch + 1]) != better(values[:epoch])]
    first_without = next(epoch for epoch in range(1, 9) if epoch not in gains)  # from 0
    patient = trained(tiny(epochs=8, early_stopping_patience=1, early_stopping_metric=metric), digits())
    assert len(patient) == min(first_without + 1, 8)
    assert len(patient) > 1
    assert bool(patient[-1].reason) == (first_without < 8)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
@pytest.mark.parametrize("freeze", ["stage2", "all"])
def test_what_is_frozen_keeps_its_weights_and_its_statistics(
    digits: Digits, tiny: Tiny, backbone: str, freeze: str
) -> None:
    optimizer = {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}
    config = tiny(backbone=backbone, model={"freeze": freeze}, epochs=2, optimizer=optimizer, ema_decay=0.9)
    start = fresh(config)
    state = trained(config, digits())[-1].state
    frozen = {name for name, parameter in start.named_parameters() if not parameter.requires_grad}
    for name, module in start.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.training:
            frozen |= {f"{name}.{buffer}" for buffer, _ in module.named_buffers()}
    assert frozen
    for trained_model in (state.model, state.weights):
        after = weights(trained_model)
        changed = {name for name, tensor in weights(start).items() if not torch.equal(tensor, after[name])}
        assert changed & frozen == set()
        assert {"head.1.weight", "head.1.bias"} <= changed
        assert (freeze == "all") == all(name.startswith("head.") for name in changed)


def test_averaged_weights_are_what_is_evaluated(digits: Digits, tiny: Tiny) -> None:
    plain = trained(tiny(epochs=2), digits())[-1]
    averaged = trained(tiny(epochs=2, ema_decay=0.99), digits())[-1]
    assert averaged.state.ema is not None
    assert averaged.state.weights is averaged.state.ema.module
    # Averaging watches the training and does not touch it.
    assert averaged.metrics["train/loss"] == plain.metrics["train/loss"]
    assert averaged.metrics["val/loss"] != plain.metrics["val/loss"]


def test_bf16_trains_with_weights_and_logits_in_fp32(digits: Digits, tiny: Tiny) -> None:
    result = trained(tiny(precision="bf16"), digits())[0]
    assert {parameter.dtype for parameter in result.state.model.parameters()} == {torch.float32}
    assert result.predictions["logits"].dtype == np.float32
    exact = trained(tiny(), digits())[0].metrics
    assert result.metrics["val/loss"] != exact["val/loss"]
    assert result.metrics["train/loss"] == pytest.approx(exact["train/loss"], rel=0.05)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixed_batches_train_and_are_the_same_each_time(digits: Digits, tiny: Tiny, name: str) -> None:
    config = tiny(augment={"mix": {"name": name, "alpha": 1.0}}, epochs=2)
    mixed = metrics(trained(config, digits(train=41)))  # a batch with an odd one out
    assert mixed == metrics(trained(config, digits(train=41)))
    assert mixed[0]["train/loss"] != trained(tiny(epochs=2), digits(train=41))[0].metrics["train/loss"]


def test_clipping_bounds_how_far_a_step_goes(digits: Digits, tiny: Tiny) -> None:
    optimizer = {"name": "sgd", "lr": 1.0, "momentum": 0.0}
    config = tiny(optimizer=optimizer, schedule={"name": "constant"}, clip_grad_norm=0.01)
    start = fresh(config)
    model = trained(config, digits(train=16))[0].state.model
    pairs = zip(start.parameters(), model.parameters(), strict=True)
    moved = math.sqrt(sum((before - after).square().sum().item() for before, after in pairs))
    assert moved == pytest.approx(0.01, rel=0.01)


def test_warm_up_raises_the_rate_step_by_step(digits: Digits, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[list[float]] = []
    step = loop._optimizer_step

    def recorded(config: TrialConfig, state: loop.TrainState) -> None:
        rates.append([group["lr"] for group in state.optimizer.param_groups])
        step(config, state)

    monkeypatch.setattr(loop, "_optimizer_step", recorded)
    optimizer = {"name": "sgd", "lr": 0.1, "backbone_lr_scale": 0.5}
    schedule = {"name": "constant", "warmup_epochs": 1.0}
    trained(tiny(epochs=2, optimizer=optimizer, schedule=schedule), digits())
    assert [max(groups) for groups in rates] == pytest.approx([0.001, 0.02575, 0.0505, 0.07525, *[0.1] * 4])
    assert [min(groups) for groups in rates] == pytest.approx([max(groups) / 2 for groups in rates])


def test_data_of_several_tags_trains(digits: Digits, tiny: Tiny) -> None:
    data = digits()
    tags = np.stack([data.dataset.targets % 2, data.dataset.targets > 4], axis=1).astype(np.uint8)
    several = replace(data.dataset, task="multilabel", classes=("odd", "large"), targets=tags)
    result = trained(
        tiny(task="multilabel", loss={"name": "bce", "pos_weight": "balanced"}), TrialData(several, data.images)
    )[0]
    assert result.predictions["logits"].shape == (40, 2)
    values = {name.removeprefix("val/"): value for name, value in result.metrics.items() if name.startswith("val/")}
    targets = LABEL_TASKS["multilabel"].encode(tags[several.indices("val")], 2)
    assert values == score("multilabel", torch.from_numpy(result.predictions["logits"]), targets, 2, 0.5)
