"""Checkpoints without the weights that stay as the pretrained ones are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trainables.checkpoint import TrialFiles, load_state
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.loop import fit
from trainables.models.build import build_model
from visionsweep.core.errors import RunError

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]


@pytest.fixture
def pretrained(tiny: Tiny, tmp_path: Path) -> Path:
    """A file of weights for the tiny backbone."""
    path = tmp_path / "weights.safetensors"
    save_file(build_model(tiny().model, 10, 32).state_dict(), path)
    return path


def after_an_epoch(config: TrialConfig, data: TrialData, folder: Path) -> Path:
    """The last.pt of a training that was stopped."""
    files = TrialFiles(folder / "checkpoints/t1", folder / "predictions/t1", "val/accuracy", "max", 1)
    stopped = fit(config, data, CPU)
    files.save(next(stopped), resumable=True)
    stopped.close()
    return files.last


@pytest.mark.parametrize(
    "model",
    [{"freeze": "all"}, {"freeze": "stage2"}, {"batch_norm": "fixed"}, {"freeze": "stage4", "head_init": "probe"}],
    ids=["all", "stages", "norms", "probe"],
)
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_training_goes_on_bit_for_bit_without_what_is_frozen(
    digits: Digits, tiny: Tiny, tmp_path: Path, pretrained: Path, model: dict[str, Any], ema_decay: float | None
) -> None:
    optimizer = {"name": "adamw", "lr": 1e-4}
    config = tiny(model={"weights": str(pretrained), **model}, epochs=3, ema_decay=ema_decay, optimizer=optimizer)
    data = digits(train=48, val=16)
    straight = list(fit(config, data, CPU))
    last = after_an_epoch(config, data, tmp_path)
    stored = torch.load(last, weights_only=True)
    left_out = straight[0].state.model.state_dict().keys() - stored["model"].keys()
    moved = {
        name for name, tensor in straight[-1].state.model.state_dict().items() if name in stored["model"]
        and not torch.equal(tensor, stored["model"][name])
    }  # fmt: skip
    assert left_out
    assert moved == stored["model"].keys()
    assert stored["ema"] is None or {name.removeprefix("module.") for name in stored["ema"]} == moved
    resumed = list(fit(config, data, CPU, resume=load_state(last)))
    assert [result.metrics for result in resumed] == [result.metrics for result in straight[1:]]
    for one, two in zip(straight[-1:], resumed[-1:], strict=True):
        stored_weights = two.state.weights.state_dict()
        assert all(torch.equal(tensor, stored_weights[name]) for name, tensor in one.state.weights.state_dict().items())


def test_other_frozen_weights_than_it_trained_with_are_refused(
    digits: Digits, tiny: Tiny, tmp_path: Path, pretrained: Path
) -> None:
    config = tiny(model={"weights": str(pretrained), "freeze": "all"}, epochs=2)
    last = after_an_epoch(config, digits(train=32, val=8), tmp_path)
    torch.manual_seed(9)
    save_file(build_model(tiny().model, 10, 32).state_dict(), pretrained)
    with pytest.raises(RunError, match=r"last\.pt: .*\(its frozen weights are not those that model\.weights has now\)"):
        next(fit(config, digits(train=32, val=8), CPU, resume=load_state(last)))


def test_what_was_drawn_and_what_an_older_version_wrote_is_whole(
    digits: Digits, tiny: Tiny, tmp_path: Path, pretrained: Path
) -> None:
    data = digits(train=32, val=8)
    drawn = torch.load(after_an_epoch(tiny(model={"freeze": "all"}, epochs=2), data, tmp_path), weights_only=True)
    assert drawn["held"] is None
    config = tiny(model={"weights": str(pretrained), "freeze": "all"}, epochs=2)
    first, second = fit(config, data, CPU)
    assert drawn["model"].keys() == first.state.model.state_dict().keys()
    last = after_an_epoch(config, data, tmp_path / "old")
    old = torch.load(last, weights_only=True)
    del old["held"]
    old["model"] = {**first.state.model.state_dict(), **old["model"]}
    torch.save(old, last)
    (resumed,) = fit(config, data, CPU, resume=load_state(last))
    assert resumed.metrics == second.metrics
