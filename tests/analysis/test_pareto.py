from __future__ import annotations

import itertools

import numpy as np
import pytest

from visionsweep.core.objectives import Objective
from visionsweep.core.pareto import fronts
from visionsweep.run_dir.rank import with_fronts
from visionsweep.run_dir.trials import Trial

OBJECTIVES = (Objective("val/f1", "max"), Objective("latency_ms", "min"))


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one >= other).all() and (one > other).any())


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_fronts_are_what_peeling_one_after_the_other_gives(num_objectives: int, seed: int) -> None:
    points = np.random.default_rng(seed).integers(0, 6, (40, num_objectives)).astype(float)  # many ties
    left = set(range(len(points)))
    expected = np.zeros(len(points), dtype=int)
    for number in itertools.count(1):
        if not left:
            break
        front = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        expected[list(front)] = number
        left -= front
    assert fronts(points.tolist()).tolist() == expected.tolist()


def test_no_points_have_no_fronts() -> None:
    assert fronts([]).tolist() == []


def trial(trial_id: str, status: str, f1: float, latency: float | None) -> Trial:
    rows = [
        {"epoch": 1, "metrics": {"val/f1": f1 - 0.1}, "seconds": 1.0, "latency_ms": 0.1},
        {"epoch": 2, "metrics": {"val/f1": f1}, "seconds": 1.0, **({} if latency is None else {"latency_ms": latency})},
    ]
    return Trial(trial_id, {}, {}, rows, status)


def test_trials_are_ranked_by_front_and_within_one_by_the_first_objective() -> None:
    trials = [
        trial("0000", "complete", 0.7, 5.0),
        trial("0001", "complete", 0.9, 9.0),
        trial("0002", "complete", 0.6, 6.0),  # behind 0000 in both
        trial("0003", "pruned", 0.95, 0.2),
        trial("0004", "complete", 0.99, None),
    ]
    found = [(one.trial_id, front) for one, front in with_fronts(trials, OBJECTIVES)]
    assert found == [("0001", 1), ("0000", 1), ("0002", 2), ("0003", None), ("0004", None)]


def test_the_outcome_of_a_trial_is_that_of_its_best_epoch() -> None:
    assert trial("0000", "complete", 0.7, 5.0).outcome(OBJECTIVES) == (0.7, -5.0)
    assert Trial("0001", {}, {}).outcome(OBJECTIVES) is None
