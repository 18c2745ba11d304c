"""Half precision: where it is in force, what takes its place elsewhere, and float16's loss scaling."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from trainables import inference, state
from trainables.checkpoint import TrialFiles, load_state
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.inference import to_input
from trainables.loop import fit
from trainables.models.classifiers import build_classifier
from trainables.precision import fallback, precision_in_force
from trainables.state import build_state

pytestmark = pytest.mark.usefixtures("one_thread")

Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]
CPU = torch.device("cpu")


@pytest.fixture
def fp16_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use float16 as on a GPU. The CPU emulates it, slowly."""
    for module in (inference, state):
        monkeypatch.setattr(module, "precision_in_force", lambda config, device: config.precision)


@pytest.mark.usefixtures("fp16_anywhere")
def test_fp16_scales_the_loss_and_learns(digits: Digits, tiny: Tiny) -> None:
    results = list(fit(tiny(epochs=4, precision="fp16"), digits(), CPU))
    trained = results[-1].state
    assert trained.scaler.is_enabled()
    assert 1 <= trained.scaler.get_scale() <= 65536  # halved when a gradient overflows, whose step is left out
    assert all(math.isfinite(value) for result in results for value in result.metrics.values())
    assert results[-1].metrics["train/loss"] < results[0].metrics["train/loss"] - 0.2
    assert all(parameter.dtype == torch.float32 for parameter in trained.model.parameters())


@pytest.mark.usefixtures("fp16_anywhere")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gradients_are_clipped_at_their_own_scale_whatever_the_precision(
    digits: Digits, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Clipped while they were still scaled, they would move the weights by a thousandth of this."""
    # Scaled by the usual 65536, this network's first gradients come close to float16's largest number.
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=1024.0))
    sgd = {"name": "sgd", "lr": 0.05, "momentum": 0.0}
    config = tiny(precision=precision, clip_grad_norm=0.1, optimizer=sgd, schedule={"name": "constant"})
    torch.manual_seed(config.seed)
    start = dict(build_classifier(config.model, 10, config.image_size).named_parameters())
    after = next(fit(config, digits(train=16), CPU)).state.model.named_parameters()
    moved = torch.cat([(parameter - start[name]).detach().flatten() for name, parameter in after])
    assert float(moved.norm()) == pytest.approx(0.05 * 0.1, rel=0.01)


def gpu_of(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> torch.device:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    return torch.device("cuda")


def cpu_with(monkeypatch: pytest.MonkeyPatch, *instructions: str) -> torch.device:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    return CPU


@pytest.mark.parametrize(
    ("capability", "bf16"), [((6, 1), "fp16"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((12, 0), "bf16")]
)
def test_bf16_is_fp16_on_a_gpu_without_bf16_arithmetic(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], bf16: str
) -> None:
    """torch emulates it there, several times slower, without a warning."""
    gpu = gpu_of(monkeypatch, capability)
    asked = ("fp32", "fp16", "bf16")
    assert [precision_in_force(tiny(precision=one), gpu) for one in asked] == ["fp32", "fp16", bf16]


def test_the_loss_is_scaled_by_the_precision_in_force(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    enabled = {}
    build = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: build("cpu", enabled=enabled))
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_, **__: module)  # there is no such GPU here
    for name, capability in (("t4", (7, 5)), ("a100", (8, 0))):
        gpu = gpu_of(monkeypatch, capability)
        enabled[name] = {
            one: build_state(tiny(precision=one), 10, gpu).scaler.is_enabled() for one in ("fp32", "fp16", "bf16")
        }
    assert enabled == {
        "t4": {"fp32": False, "fp16": True, "bf16": True},
        "a100": {"fp32": False, "fp16": True, "bf16": False},
    }


@pytest.mark.parametrize(
    ("instructions", "bf16"),
    [(("avx2",), "fp32"), (("avx512_f", "avx512_bf16"), "bf16"), (("amx_bf16",), "bf16"), (("neon", "bf16"), "bf16")],
)
def test_a_cpu_computes_in_fp32_what_it_has_no_instructions_for(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, instructions: tuple[str, ...], bf16: str
) -> None:
    cpu = cpu_with(monkeypatch, *instructions)
    asked = ("fp32", "fp16", "bf16")
    assert [precision_in_force(tiny(precision=one), cpu) for one in asked] == ["fp32", "fp32", bf16]


def test_fp16_and_bf16_train_and_predict_as_fp32_on_a_cpu_without_them(
    digits: Digits, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = cpu_with(monkeypatch, "avx2")
    data = digits(train=32, val=8)
    exact = next(fit(tiny(), data, cpu))
    for precision in ("fp16", "bf16"):
        result = next(fit(tiny(precision=precision), data, cpu))
        assert not result.state.scaler.is_enabled()
        assert result.metrics == exact.metrics
        assert (result.predictions["logits"] == exact.predictions["logits"]).all()


def test_another_precision_than_the_one_asked_for_is_said(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = cpu_with(monkeypatch, "avx2")
    assert fallback(tiny(precision="fp16"), cpu) == ("precision is fp16, which this CPU lacks: it computes in fp32.")
    assert fallback(tiny(), cpu) is None
    gpu = gpu_of(monkeypatch, (7, 5))
    assert fallback(tiny(precision="bf16"), gpu) == "precision is bf16, which this GPU lacks: it computes in fp16."


def test_a_training_goes_on_where_another_precision_is_in_force(
    digits: Digits, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a GPU has no loss scale to store."""
    config, data = tiny(epochs=2, precision="fp16"), digits(train=32, val=8)
    files = TrialFiles(tmp_path / "c", tmp_path / "p", "val/accuracy", "max", 1)
    files.save(next(fit(config, data, CPU)), resumable=True)
    for module in (inference, state):
        monkeypatch.setattr(module, "precision_in_force", lambda config, device: config.precision)
    result = next(fit(config, data, CPU, resume=load_state(files.last)))
    assert result.epoch == 2
    assert result.state.scaler.is_enabled()


def test_an_image_becomes_input_without_any_tensor_made_from_numbers(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a tensor is copied to the GPU, which is waited for, at every batch."""
    config = tiny()
    model = build_classifier(config.model, 10, config.image_size)
    images_u8 = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(colour) for colour in (model.mean, model.std))  # (3,)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a tensor was made from numbers")

    with monkeypatch.context() as patch:
        for maker in ("tensor", "as_tensor", "from_numpy"):
            patch.setattr(torch, maker, refuse)
        images = to_input(images_u8, model, config, CPU)
    torch.testing.assert_close(images, ((images_u8 / 255 - mean) / std).permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)
