"""Half precision on a CPU: float16 with loss scaling."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from trainables.config import TrialConfig
from trainables.data.loader import TrialData
from trainables.inference import to_input
from trainables.loop import fit
from trainables.models.classifiers import build_classifier

pytestmark = pytest.mark.usefixtures("one_thread")

Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]
CPU = torch.device("cpu")


def test_fp16_scales_the_loss_and_learns_as_fp32_does(digits: Digits, tiny: Tiny) -> None:
    half, full = (list(fit(tiny(epochs=2, precision=p), digits(), CPU)) for p in ("fp16", "fp32"))
    scaler = half[-1].state.scaler
    assert scaler.is_enabled()
    assert not full[-1].state.scaler.is_enabled()
    assert scaler.get_scale() >= 1
    for one, other in zip(half, full, strict=True):
        assert math.isfinite(one.metrics["train/loss"])
        assert one.metrics["train/loss"] == pytest.approx(other.metrics["train/loss"], rel=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in half[-1].state.model.parameters())


@pytest.mark.parametrize("clip_grad_norm", [None, 0.1])
def test_fp16_clips_gradients_at_their_own_scale(digits: Digits, tiny: Tiny, clip_grad_norm: float | None) -> None:
    """Clipped while still scaled by 65536, the step would be nothing."""
    config = tiny(precision="fp16", clip_grad_norm=clip_grad_norm)
    full = tiny(precision="fp32", clip_grad_norm=clip_grad_norm)
    torch.manual_seed(config.seed)
    start = build_classifier(config.model, 10, config.image_size).head.state_dict()
    moved = []
    for one in (config, full):
        head = next(fit(one, digits(train=32), CPU)).state.model.head.state_dict()
        moved.append(torch.cat([(head[name] - start[name]).flatten() for name in start]))
    half_norm, full_norm = (float(move.norm()) for move in moved)
    assert half_norm == pytest.approx(full_norm, rel=0.1)


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
