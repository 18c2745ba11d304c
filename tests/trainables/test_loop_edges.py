"""What rarely happens in a training: values that are missing, losses that are summed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainables.checkpoint import TrialFiles
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.loop import fit
from trainables.patience import stop_early
from trainables.state import TrainState

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]


def stops_at(config: TrialConfig, values: list[float | None], resumed_with: float | None = None) -> int | None:
    """Return the epoch at which a training stops, None if it does not. values: its watched metric, None if missing."""
    state: Any = SimpleNamespace(best_watched=resumed_with, epochs_without_gain=0, epoch=0)
    watched: TrainState = state
    for value in values:
        watched.epoch += 1
        metrics = {} if value is None else {config.early_stopping_metric: value}
        reason = stop_early(config, watched, metrics)
        assert watched.best_watched is None or not math.isnan(watched.best_watched)
        if reason:
            return watched.epoch
    return None


@pytest.mark.parametrize(
    ("values", "stop"),
    [
        ([None, None, None, None], None),  # nothing was watched yet
        ([None, 0.1, 0.2, 0.3, 0.4], None),
        ([math.nan, 0.1, 0.2, 0.3, 0.4], None),
        ([None, 0.3, 0.2, 0.1], 4),
        ([0.3, None, None, 0.4], 3),
        ([0.3, None, 0.4, None, None], 5),
    ],
)
def test_a_missing_value_is_no_gain_and_spoils_none(tiny: Tiny, values: list[float | None], stop: int | None) -> None:
    config = tiny(epochs=9, early_stopping_patience=2, early_stopping_metric="val/map")
    assert stops_at(config, values) == stop


def test_a_best_value_that_is_missing_in_an_old_checkpoint_is_forgotten(tiny: Tiny) -> None:
    config = tiny(epochs=9, early_stopping_patience=1, early_stopping_metric="val/map")
    assert stops_at(config, [0.1, 0.2, 0.3], resumed_with=math.nan) is None


@pytest.mark.parametrize("num_images", [8, 14], ids=["one whole group", "a smaller last group"])
def test_accumulated_sums_are_the_sum_of_one_large_batch(digits: Digits, tiny: Tiny, num_images: int) -> None:
    changed = {
        "backbone": "test_convnext",  # without batch norm, whose statistics are those of the small batches
        "loss": {"name": "cross_entropy", "reduction": "sum"},
        "optimizer": {"name": "sgd", "lr": 0.002, "momentum": 0.0},
    }
    data = digits(train=num_images, val=3)
    large = next(fit(tiny(**changed, batch_size=8), data, CPU)).state.model.state_dict()
    small = next(fit(tiny(**changed, batch_size=4, accumulate=2), data, CPU)).state.model.state_dict()
    for name, tensor in large.items():
        assert torch.allclose(small[name], tensor, atol=2e-6), name
    meaned = next(fit(tiny(**{**changed, "loss": {"name": "cross_entropy"}}, batch_size=8), data, CPU))
    assert any(not torch.allclose(meaned.state.model.state_dict()[name], large[name], atol=1e-4) for name in large)


def test_epochs_without_a_value_of_the_ensembles_metric_leave_the_best_one_to_export(
    digits: Digits, tiny: Tiny, tmp_path: Path
) -> None:
    files = TrialFiles(tmp_path / "c", tmp_path / "p", "val/accuracy", "max", 1, 3, "val/iou/nothing")
    for result in fit(tiny(epochs=2), digits(train=32, val=8), CPU):
        files.save(result, resumable=False)
    best = files.best()
    assert best is not None
    assert files.averaged() == [best[0]]
