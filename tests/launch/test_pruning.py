"""Which trials continue, with scripted results: no training, no Ray session."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scripted_scheduler import ACCURACY, LOSS, Driver, search

from visionsweep.core import names


@pytest.mark.parametrize(("metric", "sign"), [(ACCURACY, 1), (LOSS, -1)])
def test_the_best_third_of_a_rung_goes_on(metric: str, sign: int) -> None:
    driver = Driver(search(metric))
    scores = [sign * score for score in (0.5, 0.6, 0.9, 0.1, 0.2, 0.95)]
    assert driver.fill(scores, 4) == [True, True, True, False, False, True]


def test_nobody_is_stopped_between_the_rungs() -> None:
    driver = Driver(search())
    assert all(driver.fill(np.linspace(0.9, 0.1, 9), 3))
    assert driver.continues("late", 4, 0.5)
    driver.fill(np.linspace(0.6, 0.9, 9), 4, "good")
    for epoch in range(5, 12):
        assert driver.continues("late", epoch, 0.5)


def test_a_trial_is_asked_once_at_each_rung() -> None:
    driver = Driver(search())
    driver.fill(np.linspace(0.1, 0.4, 9), 4)
    assert driver.continues("late", 4, 0.5)
    driver.fill(np.linspace(0.6, 0.9, 9), 12, "long")
    assert driver.continues("late", 11, 0.5)
    assert not driver.continues("late", 12, 0.5)


def test_a_trial_is_judged_by_its_best_epoch_so_far() -> None:
    driver = Driver(search())
    driver.fill([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 4)
    assert driver.continues("dip", 3, 0.9)
    assert driver.continues("dip", 4, 0.05)
    assert driver.continues("flat", 3, 0.05)
    assert not driver.continues("flat", 4, 0.05)


def test_a_trial_of_twice_the_epochs_is_compared_at_the_same_share() -> None:
    driver = Driver(search())
    driver.fill(np.linspace(0.5, 0.9, 12), 4)
    assert driver.continues("long", 4, 0.1, epochs=80)  # its twentieth, where the others are at their tenth
    for epoch in (5, 6, 7):
        assert driver.continues("long", epoch, 0.1)
    assert not driver.continues("long", 8, 0.1)


def test_a_long_trial_counts_where_it_was_asked() -> None:
    driver = Driver(search())
    for number, value in enumerate(np.linspace(0.5, 0.9, 12)):
        driver.continues(f"long{number}", 8, float(value), epochs=80)
    assert not driver.continues("short", 4, 0.1)


def test_in_seconds_trials_are_compared_after_the_same_time() -> None:
    driver = Driver(search(rungs="seconds", grace_seconds=60.0))
    for number, value in enumerate(np.linspace(0.5, 0.9, 12)):
        assert driver.continues(f"slow{number}", 1, float(value) - 0.3, seconds=59.0)  # not yet
        driver.continues(f"slow{number}", 2, float(value), seconds=59.0)
    for epoch in range(1, 6):  # five epochs of ten seconds
        assert driver.continues("fast", epoch, 0.1, seconds=10.0)
    assert not driver.continues("fast", 6, 0.1, seconds=10.0)
    for epoch in range(1, 6):
        assert driver.continues("better", epoch, 0.11, seconds=10.0)
    assert driver.continues("better", 6, 0.95, seconds=10.0)


def test_in_seconds_the_rungs_go_on_beyond_what_anybody_can_name() -> None:
    driver = Driver(search(rungs="seconds", grace_seconds=60.0))
    driver.fill(np.linspace(0.5, 0.9, 12), 1, seconds=6000.0)  # past several rungs at once
    assert not driver.continues("bad", 1, 0.1, seconds=6000.0)


def told_of_fast_and_slow(rungs: str, num_slow: int) -> Driver:
    driver = Driver(search(rungs=rungs))
    driver.fill(np.linspace(0.6, 0.9, 20), 4, "fast", seconds=1.0)
    driver.fill(np.linspace(0.2, 0.4, num_slow), 4, "slow", seconds=100.0)
    return driver


def test_in_tiers_a_slow_model_is_not_compared_with_fast_ones_once_there_are_enough_of_its_kind() -> None:
    assert not told_of_fast_and_slow("epochs", 20).continues("large", 4, 0.45, seconds=100.0)
    assert told_of_fast_and_slow("tiers", 20).continues("large", 4, 0.45, seconds=100.0)
    assert not told_of_fast_and_slow("tiers", 20).continues("large", 4, 0.21, seconds=100.0)
    assert not told_of_fast_and_slow("tiers", 1).continues("large", 4, 0.45, seconds=100.0)


def test_in_tiers_a_fast_model_does_not_profit_from_slow_ones() -> None:
    driver = told_of_fast_and_slow("tiers", 200)
    assert not driver.continues("small", 4, 0.65, seconds=1.0)
    assert driver.continues("small and good", 4, 0.95, seconds=1.0)


@pytest.mark.parametrize("rungs", names.RUNGS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_stops_at_once(bad: float, rungs: str) -> None:
    driver = Driver(search(rungs=rungs))
    assert not driver.continues("first of all", 1, bad)
    assert driver.continues("other", 1, 0.5)
    assert not driver.continues("other", 2, bad)


def test_a_value_that_is_not_finite_does_not_count_at_any_rung() -> None:
    driver = Driver(search(LOSS, reduction_factor=2))
    for number in range(8):
        driver.continues(f"bad{number}", 4, math.inf)
    assert driver.continues("a", 4, 0.5)
    assert not driver.continues("b", 4, 0.9)  # half of two: of ten it would be among the best half


def test_an_epoch_without_the_metric_passes() -> None:
    driver = Driver(search())
    driver.fill(np.linspace(0.6, 0.9, 9), 4)
    assert driver.continues("unmeasured", 4, None)
    assert not driver.continues("unmeasured", 5, 0.1)  # asked when it has a value


def test_a_result_without_an_epoch_passes() -> None:
    driver = Driver(search())
    trial = driver.add("a")
    assert driver.scheduler.on_trial_result(None, trial, {"status": "interrupted", "done": True}) == "CONTINUE"


def test_a_slow_starter_that_rises_to_the_best_of_the_next_rung_goes_on() -> None:
    def judged(curve: list[float]) -> bool:
        driver = Driver(search())
        driver.fill(np.linspace(0.5, 0.6, 12), 4, "early")
        driver.fill(np.linspace(0.55, 0.65, 12), 12, "later")
        return [driver.continues("late bloomer", epoch, value) for epoch, value in enumerate(curve, start=1)][-1]

    assert judged([0.0, 0.1, 0.3, 0.48])  # 0.38 more since epoch 2: far beyond 0.65 when it doubles again
    assert not judged([0.46, 0.47, 0.475, 0.48])


@pytest.mark.parametrize("epochs", [4, 3, 1])
@pytest.mark.parametrize("rungs", ["epochs", "tiers"])
def test_a_search_as_short_as_its_grace_prunes_nothing(epochs: int, rungs: str) -> None:
    driver = Driver(search(grace_epochs=4, epochs=epochs, rungs=rungs))
    assert all(driver.continues(f"{number}", epoch, -number) for number in range(9) for epoch in range(1, epochs + 1))


def test_without_pruning_everybody_trains_to_the_end() -> None:
    driver = Driver(search(pruner="none"))
    assert all(driver.fill(np.linspace(0.9, 0.1, 12), 4))
    assert all(driver.fill(np.linspace(0.9, 0.1, 12), 36))
