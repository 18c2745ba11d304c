"""Accumulated batches: their gradient is that of one large batch, whatever the loss divides by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables.accumulation import batch_mass, in_groups
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.dataset import VOID
from trainables.data.loader import TrialData
from trainables.loop import fit
from trainables.losses import build_loss

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
C = 5
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]


def configured(task: str, loss: dict[str, Any], batch_size: int, accumulate: int) -> TrialConfig:
    model: dict[str, Any] = {"backbone": "test_convnext", "weights": "none"}
    if task == "segmentation":
        model["architecture"] = {"name": "fpn"}
    return parse_config(
        {
            "task": task, "model": model, "loss": loss, "optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 1,
            "batch_size": batch_size, "accumulate": accumulate,
        }
    )  # fmt: skip


def gradient(task: str, loss: dict[str, Any], targets: torch.Tensor, batch_size: int, accumulate: int) -> torch.Tensor:
    """Return the gradient of a linear model over all images, summed over each group's batches as in the loop."""
    config = configured(task, loss, batch_size, accumulate)
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.normal(size=(len(targets), 6))).float()
    weight = torch.zeros(6, targets.shape[1] if targets.ndim == 2 else C, requires_grad=True)
    counted = (
        rng.integers(1, 1000, (20, C)) if task == "segmentation" else rng.choice(C, 90, p=[0.6, 0.2, 0.1, 0.05, 0.05])
    )
    if task == "multilabel":
        counted = (rng.random((90, C)) < 0.2).astype(np.uint8)
    loss_of = build_loss(config, counted, C)
    batches = zip(images.split(batch_size), targets.split(batch_size), strict=True)
    for batch in in_groups(batches, config, len(targets), batch_mass(config, loss_of)):
        logits = batch.inputs @ weight
        if task == "segmentation":  # the same logits at every pixel, distinguished by their scale
            scales = torch.linspace(0.5, 1.5, batch.targets[0].numel()).view(1, 1, *batch.targets.shape[1:])
            logits = logits[:, :, None, None] * scales
        (loss_of(logits, batch.targets) * batch.share).backward()
    assert weight.grad is not None
    return weight.grad


def one_hot(rng: np.random.Generator, num_images: int) -> torch.Tensor:
    return torch.from_numpy(np.eye(C)[np.sort(rng.choice(C, num_images, p=[0.6, 0.2, 0.1, 0.05, 0.05]))]).float()


def mixed(rng: np.random.Generator, num_images: int) -> torch.Tensor:
    hard = one_hot(rng, num_images)
    return 0.7 * hard + 0.3 * hard.flip(0)


def tags(rng: np.random.Generator, num_images: int) -> torch.Tensor:
    return torch.from_numpy(rng.random((num_images, C)) < 0.2).float()


def masks(rng: np.random.Generator, num_images: int) -> torch.Tensor:
    drawn = rng.integers(0, C, (num_images, 4, 5)).astype(np.uint8)
    for number in range(num_images):  # an image has more void pixels than the one before it
        drawn[number].flat[: number % 20] = VOID
    return torch.from_numpy(drawn)


CASES: list[tuple[str, dict[str, Any], Callable[..., torch.Tensor]]] = [
    ("multiclass", {"name": "cross_entropy"}, one_hot),
    ("multiclass", {"name": "cross_entropy", "label_smoothing": 0.1}, one_hot),
    ("multiclass", {"name": "cross_entropy", "class_weights": "inverse_frequency"}, one_hot),
    ("multiclass", {"name": "cross_entropy", "class_weights": "inverse_frequency", "label_smoothing": 0.1}, one_hot),
    ("multiclass", {"name": "cross_entropy", "class_weights": "inverse_frequency"}, mixed),
    ("multiclass", {"name": "cross_entropy", "class_weights": "inverse_frequency", "reduction": "sum"}, one_hot),
    ("multiclass", {"name": "focal"}, one_hot),
    ("multilabel", {"name": "bce", "pos_weight": "balanced", "label_smoothing": 0.1}, tags),
    ("multilabel", {"name": "focal"}, tags),
    ("segmentation", {"name": "cross_entropy"}, masks),
    ("segmentation", {"name": "cross_entropy", "label_smoothing": 0.1, "class_weights": "inverse_frequency"}, masks),
    ("segmentation", {"name": "cross_entropy", "class_weights": "median_frequency"}, masks),
    ("segmentation", {"name": "focal"}, masks),
]


@pytest.mark.parametrize("num_images", [64, 40], ids=["whole groups", "a smaller last group"])
@pytest.mark.parametrize(("task", "loss", "drawn"), CASES, ids=lambda one: getattr(one, "__name__", str(one)))
def test_four_batches_of_sixteen_have_the_gradient_of_one_of_sixty_four(
    task: str, loss: dict[str, Any], drawn: Callable[..., torch.Tensor], num_images: int
) -> None:
    targets = drawn(np.random.default_rng(0), num_images)
    large = gradient(task, loss, targets, num_images, 1)
    small = gradient(task, loss, targets, 16, 4)
    assert float((small - large).norm() / large.norm()) < 1e-6


def test_a_group_of_nothing_but_void_has_no_gradient() -> None:
    targets = torch.full((32, 4, 5), VOID, dtype=torch.uint8)
    assert not gradient("segmentation", {"name": "cross_entropy"}, targets, 16, 2).any()


@pytest.mark.parametrize(
    "num_images",
    [32, 44, 41, 33],
    ids=["whole groups", "a smaller last group", "a single image over", "none in a step"],
)
@pytest.mark.parametrize("augment", [{}, {"mix": {"name": "mixup", "alpha": 1.0}}], ids=["plain", "mixup"])
def test_a_trial_whose_batch_was_halved_takes_the_steps_that_it_took_before(
    digits: Digits, tiny: Tiny, augment: dict[str, Any], num_images: int
) -> None:
    """Class weights are covered too. Mixing pairs other images in smaller batches, so only the steps' weights agree."""
    data = digits(train=num_images, val=8)
    few = np.where(data.dataset.targets < 8, data.dataset.targets % 2, data.dataset.targets % 8 + 2)
    data = replace(data, dataset=replace(data.dataset, targets=few))
    changed: dict[str, Any] = {
        "backbone": "test_convnext",
        "loss": {"name": "cross_entropy", "class_weights": "inverse_frequency"},
        "optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.9},
        "augment": augment,
    }
    large = next(fit(tiny(**changed, batch_size=16), data, CPU))
    small = next(fit(tiny(**changed, batch_size=8, accumulate=2), data, CPU))
    assert small.state.num_steps == large.state.num_steps
    if augment:
        return
    assert small.metrics["train/loss"] == pytest.approx(large.metrics["train/loss"], rel=1e-5)
    for name, tensor in large.state.model.state_dict().items():
        assert torch.allclose(small.state.model.state_dict()[name], tensor, atol=5e-6), name
