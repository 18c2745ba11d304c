"""A trial that begins with another one's state trains with its own options, and loses nothing of the state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.checkpoint import TrialFiles, load_state
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.loop import EpochResult, fit
from trainables.state import TrainState, build_state
from visionsweep.core.errors import RunError

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]
SGD: dict[str, Any] = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
ADAMW: dict[str, Any] = {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}
SCALED = {**ADAMW, "backbone_lr_scale": 0.3}


def stored(config: TrialConfig, data: TrialData, folder: Path) -> tuple[Path, EpochResult]:
    """The last.pt of a training after its first epoch, and that epoch."""
    files = TrialFiles(folder / "checkpoints", folder / "predictions", "val/accuracy", "max", 1)
    result = next(fit(config, data, CPU))
    files.save(result, resumable=True)
    return files.last, result


def filled(config: TrialConfig, path: Path) -> TrainState:
    state = build_state(config, 10, CPU)
    load_state(path)(state)
    return state


def options(state: TrainState) -> list[dict[str, Any]]:
    return [{key: value for key, value in group.items() if key != "params"} for group in state.optimizer.param_groups]


def moments(state: TrainState) -> dict[str, dict[str, Any]]:
    """Return the optimizer's state by the parameter's name."""
    return {name: dict(state.optimizer.state[parameter]) for name, parameter in state.model.named_parameters()}


def same(one: dict[str, dict[str, Any]], two: dict[str, dict[str, Any]]) -> bool:
    return one.keys() == two.keys() and all(
        one[name].keys() == two[name].keys()
        and all(
            torch.equal(torch.as_tensor(value), torch.as_tensor(two[name][key])) for key, value in one[name].items()
        )
        for name in one
    )


@pytest.mark.parametrize(
    ("donor", "copy"),
    [
        (SCALED, {**SCALED, "backbone_lr_scale": 0.375}),
        (SCALED, {**SCALED, "backbone_lr_scale": 1.0}),
        ({**SCALED, "backbone_lr_scale": 1.0}, {**SCALED, "backbone_lr_scale": 0.8}),
        (SCALED, {**SCALED, "backbone_lr_scale": 0.0}),
        (SCALED, {**SCALED, "weight_decay": 0.0}),
        ({**SCALED, "weight_decay": 0.0}, SCALED),
        ({**SCALED, "weight_decay": 0.0, "backbone_lr_scale": 1.0}, SCALED),
        (SCALED, {**SCALED, "lr": 0.0125, "beta1": 0.72, "beta2": 0.99}),
        (SGD, {**SGD, "momentum": 0.72, "nesterov": True, "weight_decay": 0.01}),
        (SCALED, {**SCALED, "layer_decay": 0.7}),
        ({**SCALED, "layer_decay": 0.7}, SCALED),
        ({**SCALED, "layer_decay": 0.7}, {**SCALED, "layer_decay": 0.6, "weight_decay": 0.0}),
    ],
)
def test_a_copy_trains_with_its_own_options_and_its_donors_moments(
    digits: Digits, tiny: Tiny, tmp_path: Path, donor: dict[str, Any], copy: dict[str, Any]
) -> None:
    data = digits(train=32, val=8)
    path, result = stored(tiny(epochs=2, optimizer=donor), data, tmp_path)
    config = tiny(epochs=2, optimizer=copy)
    state = filled(config, path)
    assert options(state) == options(build_state(config, 10, CPU))
    assert same(moments(state), moments(result.state))
    assert state.optimizer.state
    second = next(fit(config, data, CPU, resume=load_state(path)))  # and it trains
    scale = config.optimizer.backbone_lr_scale
    decay = config.optimizer.layer_decay
    expected = {1.0, *(round(scale * decay**below, 9) for below in range(5))}
    assert {round(group["lr"] / group["base_lr"], 9) for group in second.state.optimizer.param_groups} == expected


@pytest.mark.parametrize(
    "optimizer",
    [ADAMW, {**ADAMW, "weight_decay": 0.0}, {**SCALED, "weight_decay": 0.0}, SCALED, SGD],
    ids=["decay alone", "neither", "scale alone", "both", "sgd"],
)
def test_a_checkpoint_whose_equal_groups_were_merged_goes_on_bit_for_bit(
    digits: Digits, tiny: Tiny, tmp_path: Path, optimizer: dict[str, Any]
) -> None:
    """Version 0.4 kept one group for all parameters of one rate and one decay."""
    data = digits(train=32, val=8)
    config = tiny(epochs=2, optimizer=optimizer)
    path, result = stored(config, data, tmp_path)
    old = torch.load(path, weights_only=True)
    old["optimizer"] = merged(result.state)
    torch.save(old, path)
    assert same(moments(filled(config, path)), moments(result.state))
    straight = list(fit(config, data, CPU))[-1]
    resumed = next(fit(config, data, CPU, resume=load_state(path)))
    assert resumed.metrics == straight.metrics


def merged(state: TrainState) -> dict[str, Any]:
    """The optimizer's state as 0.4 stored it."""
    of = {parameter: group for group in state.optimizer.param_groups for parameter in group["params"]}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for parameter in state.model.parameters():
        groups.setdefault((of[parameter]["lr_scale"], of[parameter]["weight_decay"]), []).append(parameter)
    order = [parameter for members in groups.values() for parameter in members]
    rest = {key: value for key, value in state.optimizer.param_groups[0].items() if key != "params"}
    return {
        "state": {place: state.optimizer.state[parameter] for place, parameter in enumerate(order)},
        "param_groups": [
            {**rest, "lr_scale": scale, "weight_decay": decay, "params": _places(order, members)}
            for (scale, decay), members in groups.items()
        ],
    }


def _places(order: list[torch.nn.Parameter], members: list[torch.nn.Parameter]) -> list[int]:
    places = {id(parameter): place for place, parameter in enumerate(order)}
    return [places[id(parameter)] for parameter in members]


def test_a_checkpoint_of_other_parameters_is_refused_with_its_name(digits: Digits, tiny: Tiny, tmp_path: Path) -> None:
    path, _ = stored(tiny(optimizer=ADAMW), digits(train=32, val=8), tmp_path)
    with pytest.raises(
        RunError, match=r"last\.pt: cannot be read as a checkpoint of this configuration \(its optimizer"
    ):
        filled(tiny(optimizer=ADAMW, model={"freeze": "all"}), path)
