"""Training and evaluation do not wait for a GPU within an epoch.

Tensors of torch's meta device have no values, so whatever reads one on the host fails there. Copies that a GPU is waited
for are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainables import finite, inference, loop, optimizers
from trainables.accumulation import batch_mass, in_groups
from trainables.config.io import parse_config
from trainables.config.loss import losses_of
from trainables.config.optimizer import OPTIMIZERS
from trainables.config.trial import TrialConfig
from trainables.data.dataset import VOID
from trainables.finite import FiniteLoss
from trainables.inference import predict_batch, predict_features, predict_logits
from trainables.loop import _optimizer_step, _train_epoch
from trainables.losses import build_loss
from trainables.optimizers import build_optimizer
from trainables.parallel.ranks import Alone
from trainables.pixel_scores import PixelScores
from trainables.state import TrainState, build_state
from visionsweep.core.tasks import TASKS

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
META = torch.device("meta")
C = 5
NUM_IMAGES = 20  # four batches of four, and one that is smaller
EVERYTHING: dict[str, Any] = {
    "ema_decay": 0.9,
    "clip_grad_norm": 1.0,
    "accumulate": 2,
    "schedule": {"name": "cosine", "warmup_epochs": 0.5},
}
READS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "bincount")


class Waits(TorchDispatchMode):
    """Counts what a device is waited for: values that the host reads, and copies that are not said to be non-blocking."""

    def __init__(self, device: torch.device = META) -> None:
        super().__init__()
        self.device = device
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        if name in READS and args[0].device == self.device:
            self.found.append(name)
        moves = name == "_to_copy" and kwargs.get("device", args[0].device) != args[0].device
        if moves and not kwargs.get("non_blocking"):
            self.found.append(f"copy to {kwargs['device']}")
        if name == "copy_" and args[0].device != args[1].device and not (len(args) > 2 and args[2]):
            self.found.append(f"copy to {args[0].device}")
        return function(*args, **kwargs)


@pytest.fixture(autouse=True)
def no_autocast_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (loop, inference):
        monkeypatch.setattr(module, "autocast", lambda config, device: nullcontext())


def configured(task: str, **more: Any) -> TrialConfig:
    model: dict[str, Any] = {"backbone": "test_resnet", "weights": "none"}
    if TASKS[task].pixels:
        model["architecture"] = {"name": "fpn", "channels": 16}
    plain = {"task": task, "model": model, "optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 2, "batch_size": 4}
    return parse_config({**plain, "image_size": 32, **more})


def counted(task: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if TASKS[task].pixels:
        return rng.integers(1, 1000, (20, C))
    return (rng.random((90, C)) < 0.2).astype(np.uint8) if task == "multilabel" else rng.integers(0, C, 90)


def batches(config: TrialConfig) -> Iterator[tuple[Tensor, Tensor]]:
    size = config.image_size
    num_outputs = 1 if config.task == "binary" else C
    for start in range(0, NUM_IMAGES, config.batch_size):
        number = min(config.batch_size, NUM_IMAGES - start)
        images = torch.zeros(number, size, size, 3, dtype=torch.uint8)
        if TASKS[config.task].pixels:
            masks = torch.zeros(number, size, size, dtype=torch.uint8)
            masks[:, :2] = VOID
            yield images, masks
        else:
            yield images, torch.eye(num_outputs)[torch.arange(number) % num_outputs]


def state_on_meta(config: TrialConfig) -> TrainState:
    state = build_state(config, 1 if config.task == "binary" else C, CPU)  # timm's average wants random numbers there
    state.model.to(META)
    state.optimizer = build_optimizer(config.optimizer, state.model)
    if state.ema is not None:
        state.ema.module.to(META)
    return state


def waits_of_an_epoch(config: TrialConfig, state: TrainState | None = None) -> list[str]:
    """Train an epoch without values. Only its mean loss is read, when all batches are trained."""
    state = state or state_on_meta(config)
    loss = build_loss(config, counted(config.task), C)
    micro_batches = list(in_groups(batches(config), config, NUM_IMAGES, batch_mass(config, loss)))
    loss.to(META)
    trained = iter(micro_batches)
    with Waits() as waits, pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        _train_epoch(config, state, state.model, trained, NUM_IMAGES, loss, META, lambda: None, Alone())
    assert next(trained, None) is None, "it stopped before the epoch's end"
    assert state.num_steps == -(-NUM_IMAGES // (config.batch_size * config.accumulate))
    assert waits.found.pop() in READS, "the epoch's mean"
    return waits.found


@pytest.mark.parametrize(("task", "loss"), [(task, loss) for task in TASKS for loss in losses_of(task)])
def test_no_step_waits_whatever_the_loss(task: str, loss: str) -> None:
    assert waits_of_an_epoch(configured(task, loss={"name": loss}, **EVERYTHING)) == []


@pytest.mark.parametrize(
    ("task", "loss"),
    [
        ("multiclass", {"name": "cross_entropy", "class_weights": "inverse_frequency", "label_smoothing": 0.1}),
        ("multilabel", {"name": "bce", "pos_weight": "balanced"}),
        ("segmentation", {"name": "cross_entropy", "class_weights": "median_frequency"}),
        ("segmentation", {"name": "lovasz", "ce_weight": 0.5}),
    ],
)
def test_no_step_waits_for_class_weights(task: str, loss: dict[str, Any]) -> None:
    assert waits_of_an_epoch(configured(task, loss=loss, **EVERYTHING)) == []


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_no_step_waits_for_mixed_images(mix: str) -> None:
    assert waits_of_an_epoch(configured("multiclass", augment={"mix": {"name": mix, "p": 1.0}}, **EVERYTHING)) == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_step_waits_whatever_the_optimizer(optimizer: str) -> None:
    more = {**EVERYTHING, "optimizer": {"name": optimizer, "lr": 0.1, "backbone_lr_scale": 0.3}}
    assert waits_of_an_epoch(configured("multiclass", **more)) == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_no_fused_step_waits_and_none_for_the_scale_of_the_loss(
    monkeypatch: pytest.MonkeyPatch, optimizer: str, precision: str
) -> None:
    """A GPU's steps are fused. torch fuses them on a CPU too, where they have values."""
    monkeypatch.setattr(optimizers, "FUSED", ("cpu",))
    config = configured("multiclass", optimizer={"name": optimizer, "lr": 0.1}, ema_decay=0.9, clip_grad_norm=1.0)
    state = build_state(config, C, CPU)
    state.scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16", init_scale=4.0)
    for clip in (1.0, None):
        clipped = config.model_copy(update={"clip_grad_norm": clip})
        for _ in range(2):
            state.scaler.scale(state.model(torch.zeros(2, 3, 32, 32)).sum()).backward()
            with Waits(CPU) as waits:
                _optimizer_step(clipped, state)
            assert waits.found == []


def test_a_read_of_the_host_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with Waits(CPU) as waits:
        float(torch.ones(()))
        torch.ones(2).to(META)
        torch.ones(2).to(META, non_blocking=True)
    assert waits.found == ["_local_scalar_dense", "copy to meta"]
    monkeypatch.setattr(finite, "EVERY", 1)  # as if each batch's loss were read
    with pytest.raises(AssertionError, match="stopped before"):
        waits_of_an_epoch(configured("multiclass"))


@pytest.mark.parametrize("task", [task for task in TASKS if not TASKS[task].pixels])
def test_evaluation_waits_for_no_batch(task: str) -> None:
    config = configured(task, ema_decay=0.9)
    model = state_on_meta(config).weights.eval()
    with Waits() as waits:
        logits, targets = predict_logits(config, [model], batches(config), META, lambda: None, 1)
        from_features = predict_features(config, [model], torch.zeros(NUM_IMAGES, _width(model)), META)
    assert waits.found == []
    assert logits.shape == targets.shape == from_features.shape
    assert logits.device == targets.device == META


def _width(model: torch.nn.Module) -> int:
    return next(layer.in_features for layer in model.get_submodule("head").modules() if hasattr(layer, "in_features"))


def test_evaluation_of_masks_waits_only_for_the_decisions_of_a_batch() -> None:
    """A batch's decisions go to the host, once. A split's would not fit on a GPU."""
    config = configured("segmentation")
    model = state_on_meta(config).weights.eval()
    scores = PixelScores([str(number) for number in range(C)], META)
    with Waits() as waits:
        for images, masks in batches(config):
            truth = masks.to(META, non_blocking=True)
            logits = predict_batch(config, [model], images, META)
            decided = [scores.update(logits[i : i + 1], truth[i : i + 1].long()) for i in range(len(masks))]
            torch.cat(decided)
    assert waits.found == []


class LateGpu:
    """Stand-in for the events of a GPU: a copy arrives when the test says so."""

    arrived = False

    def record(self) -> None:
        LateGpu.arrived = False

    def query(self) -> bool:
        return LateGpu.arrived


def test_a_gpus_loss_is_read_once_its_copy_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", LateGpu)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory, **kind: empty(*size, **kind))
    failed: list[tuple[float, int]] = []
    watched = FiniteLoss(torch.device("cuda", 0), lambda value, step: failed.append((value, step)))
    watched.look(torch.tensor(float("inf")), 0)
    for step in range(1, 30):
        watched.look(torch.tensor(1.0), step)
    assert failed == [], "its copy has not arrived, and is not overwritten by that of batch 20"
    LateGpu.arrived = True
    watched.look(torch.tensor(1.0), 30)
    assert failed == [(float("inf"), 0)]
    for step in range(31, 45):
        LateGpu.arrived = True
        watched.look(torch.tensor(float("nan") if step == 40 else 1.0), step)
    assert str(failed[1:]) == "[(nan, 40)]"


def test_a_cpus_loss_is_read_at_once() -> None:
    failed: list[tuple[float, int]] = []
    watched = FiniteLoss(CPU, lambda value, step: failed.append((value, step)))
    for step in range(3):
        watched.look(torch.tensor(float("inf") if step == 1 else 1.0), step)
    assert failed == [(float("inf"), 1)]
