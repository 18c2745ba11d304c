"""What a configuration's memory is predicted to be, and how sure of it the model is."""

from __future__ import annotations

import numpy as np
import pytest

from launch.machines.memory_model import MemoryModel
from launch.samplers.encoding import Encoder
from search_spaces import Float, Int, Pick
from search_spaces.grammar import Space

SPACE: Space = {
    "backbone": Pick("small", "large"),
    "batch_size": Pick(8, 16, 32, 64),
    "size": Int(64, 256, step=64),
    "lr": Float(1e-4, 1e-1, log=True),
}
PYTHON_MB = 900.0


def megabytes(params: dict[str, object]) -> float:
    """Return the memory of libraries, and of activations that grow with the batch and the area of the images."""
    one = 4.0 if params["backbone"] == "large" else 1.0
    return PYTHON_MB + one * int(params["batch_size"]) * (int(params["size"]) / 64) ** 2  # type: ignore[call-overload]


def drawn(num: int, seed: int) -> list[dict[str, object]]:
    encoder = Encoder(SPACE)
    return [encoder.decode(row) for row in encoder.sample(np.random.default_rng(seed), num)]


def learned(num: int) -> MemoryModel:
    params = drawn(num, 0)
    return MemoryModel(SPACE, params, [megabytes(one) for one in params])


@pytest.mark.parametrize("num", [4, 12, 40])
def test_few_need_more_than_their_upper_bound(num: int) -> None:
    model = learned(num)
    over = [megabytes(params) > 1.1 * model.estimate(params).upper_mb for params in drawn(200, 1)]
    assert sum(over) <= 0.05 * 200


def test_the_bound_closes_in_on_what_is_needed() -> None:
    ratios = [
        np.median([learned(num).estimate(params).upper_mb / megabytes(params) for params in drawn(50, 1)])
        for num in (2, 40)
    ]
    assert 1 <= ratios[1] < 1.15
    assert ratios[0] > 1.5 * ratios[1]


def test_a_backbone_that_nobody_measured_has_a_wide_bound_and_another_rate_a_narrow_one() -> None:
    seen: dict[str, object] = {"backbone": "small", "batch_size": 16, "size": 64, "lr": 1e-2}
    model = MemoryModel(SPACE, [seen] * 3, [2000.0, 2010.0, 1990.0])
    other_rate = model.estimate({**seen, "lr": 2e-4})
    other_backbone = model.estimate({**seen, "backbone": "large"})
    assert other_rate.expected_mb == pytest.approx(2000, rel=0.05)
    assert other_rate.upper_mb < 1.25 * 2000
    assert other_backbone.upper_mb > 1.5 * 2000


def test_a_larger_batch_than_any_measured_is_expected_to_need_more() -> None:
    params = [one for one in drawn(60, 0) if one["batch_size"] != 64][:30]
    model = MemoryModel(SPACE, params, [megabytes(one) for one in params])
    beyond: dict[str, object] = {"backbone": "large", "batch_size": 64, "size": 256, "lr": 1e-3}
    assert megabytes(beyond) < 1.1 * model.estimate(beyond).upper_mb < 2 * megabytes(beyond)


def test_without_a_measured_trial_there_is_no_model() -> None:
    with pytest.raises(ValueError, match="needs a measured trial"):
        MemoryModel(SPACE, [], [])
