"""Half precision on a CPU: float16 with loss scaling."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

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


def test_fp16_scales_the_loss_and_learns(digits: Digits, tiny: Tiny) -> None:
    results = list(fit(tiny(epochs=4, precision="fp16"), digits(), CPU))
    state = results[-1].state
    assert state.scaler.is_enabled()
    assert 1 <= state.scaler.get_scale() <= 65536  # halved when a gradient overflows, whose step is left out
    assert all(math.isfinite(value) for result in results for value in result.metrics.values())
    assert results[-1].metrics["train/loss"] < results[0].metrics["train/loss"] - 0.2
    assert all(parameter.dtype == torch.float32 for parameter in state.model.parameters())


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
