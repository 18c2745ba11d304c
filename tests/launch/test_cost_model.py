"""The learned cost of an epoch, and its use within a budget."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from ray.tune.search import Searcher

from launch.samplers.cost_model import CostModel
from launch.samplers.encoding import Encoder
from launch.samplers.history import EPOCH_SECONDS
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces import Float, Pick, Search

SPACE = {"backbone": Pick("small", "large"), "size": Float(32, 256, log=True), "lr": Float(0, 1)}


def seconds(params: dict[str, object]) -> float:
    return (20.0 if params["backbone"] == "large" else 1.0) * float(params["size"]) / 32  # type: ignore[arg-type]


def model(num: int) -> tuple[CostModel, Encoder]:
    encoder = Encoder(SPACE)
    rows = encoder.sample(np.random.default_rng(0), num)
    return CostModel(encoder, rows, np.log([seconds(encoder.decode(row)) for row in rows])), encoder


def test_costs_that_multiply_are_learned_from_a_few_trials() -> None:
    learned, encoder = model(20)
    for row in encoder.sample(np.random.default_rng(1), 50):
        params = encoder.decode(row)
        assert learned.seconds(params) == pytest.approx(seconds(params), rel=0.35)


def test_nothing_is_said_before_a_trial_has_told() -> None:
    encoder = Encoder(SPACE)
    assert CostModel(encoder, np.zeros((0, 3)), np.zeros(0)).seconds({"backbone": "small", "size": 32.0}) is None


def test_one_trial_tells_of_all_what_it_cost_itself() -> None:
    learned, _ = model(1)
    assert learned.known == 1
    assert math.isfinite(learned.seconds({"backbone": "large", "size": 64.0, "lr": 0.5}) or math.nan)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_with_a_budget_only_what_still_reaches_its_first_rung_is_proposed(tmp_path: Path) -> None:
    search = Search(task="multiclass", space=SPACE, epochs=8, grace_epochs=2, metric="val/accuracy")
    clock = Clock()
    searcher = StudySearcher(
        search.for_task("multiclass"), Records.create(tmp_path / "run", {}), 0, None, 1000.0, lambda config: None, clock
    )
    for number in range(30):  # all costs are seen
        proposal = searcher.suggest(str(number))
        assert isinstance(proposal, dict)
        row = {"epoch": 1, "seconds": seconds(proposal["config"]), "val/accuracy": 0.5, "status": "running"}
        searcher.on_trial_complete(str(number), row)
    clock.now_s = 980.0  # 20 seconds left, and a first rung is two epochs: large ones no longer fit
    late = [searcher.suggest(f"late {number}") for number in range(10)]
    configs = [one["config"] for one in late if isinstance(one, dict)]
    assert configs
    assert all(2 * seconds(config) < 20 * 1.35 for config in configs)
    clock.now_s = 999.9  # not even the cheapest does
    assert searcher.suggest("last") == Searcher.FINISHED


@pytest.mark.parametrize(
    ("told", "costs"),
    [([9.0, 2.0, 2.0, 2.5], 2.0), ([9.0, 1.0], 5.0), ([4.0, 4.0, 4.0, 9.0, 9.0, 9.0, 9.5], 9.0)],
    ids=["the first epoch also builds", "two epochs", "a backbone that rested at first"],
)
def test_an_epoch_costs_what_the_first_ones_took_or_the_latest_where_those_are_dearer(
    tmp_path: Path, told: list[float], costs: float
) -> None:
    search = Search(task="multiclass", space=SPACE, epochs=8, metric="val/accuracy").for_task("multiclass")
    records = Records.create(tmp_path / "run", {})
    searcher = StudySearcher(search, records, 0, None, None, lambda config: None)
    proposal = searcher.suggest("ray")
    assert isinstance(proposal, dict)
    for epoch, took in enumerate(told, 1):
        row = {"epoch": epoch, "seconds": took, "val/accuracy": 0.5, "status": "running"}
        searcher.on_trial_result("ray", row)
        records.epoch({"trial_id": proposal["trial_id"], "metrics": {"val/accuracy": 0.5}, **row})
    (live,) = searcher.study.get_trials(deepcopy=False)
    assert live.user_attrs[EPOCH_SECONDS] == costs
    (again,) = StudySearcher(search, records, 0, None, None, lambda config: None).study.get_trials(deepcopy=False)
    assert again.user_attrs[EPOCH_SECONDS] == costs
