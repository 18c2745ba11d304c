"""The rungs as a table: scripted values in, decisions out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from launch.pruners.rungs import Rungs, extrapolate
from visionsweep.core.rungs import milestones


def told(rungs: Rungs, *values: float, milestone: float = 4, stratum: str = "") -> list[bool]:
    return [rungs.promote(milestone, value, stratum) for value in values]


def test_the_first_to_arrive_goes_on() -> None:
    assert Rungs([4, 12], 3).promote(4, -1e9)
    rungs = Rungs([4, 12], 3)
    assert told(rungs, 0.9, 0.1) == [True, False]
    assert rungs.promote(12, 0.0)  # the first at the next rung


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_of_many_in_rising_order_the_best_share_goes_on_when_the_last_arrives(factor: int) -> None:
    for place in range(1, 13):
        rungs = Rungs([4], factor)
        values = [float(number) for number in range(1, 13)]
        for value in values:
            if value != place:
                rungs.record(4, value)
        promoted = rungs.promote(4, float(place))
        assert promoted == (place > 12 - 12 / factor), (factor, place)


def test_with_many_by_chance_about_the_share_goes_on() -> None:
    rungs = Rungs([4], 3)
    answers = told(rungs, *np.random.default_rng(0).random(900).tolist())
    assert 0.30 < np.mean(answers[100:]) < 0.37


def test_bad_trials_of_a_warm_start_let_none_of_the_others_go_on() -> None:
    plain = Rungs([4], 3)
    warm = Rungs([4], 3)
    for value in (0.1, 0.11, 0.12):
        assert warm.promote(4, value, from_warm_start=True)  # nobody of the search's own came yet
    values = np.random.default_rng(0).uniform(0.2, 1.0, 60).tolist()
    assert told(warm, *values) == told(plain, *values)
    assert not warm.promote(4, 0.15, from_warm_start=True)


def test_good_trials_of_a_warm_start_raise_the_bar() -> None:
    plain = Rungs([4], 3)
    warm = Rungs([4], 3)
    for value in (0.9, 0.91, 0.92):
        assert warm.promote(4, value, from_warm_start=True)
    assert told(plain, 0.5, 0.4, 0.6) == [True, False, True]
    assert told(warm, 0.5, 0.4, 0.6) == [False, False, False]


def test_equal_values_go_on_together() -> None:
    assert told(Rungs([4], 3), *[0.5] * 9) == [True] * 9


def test_a_tie_with_the_worst_that_goes_on_goes_on() -> None:
    rungs = Rungs([4], 3)
    for value in (0.1, 0.2, 0.3, 0.8, 0.9):
        rungs.record(4, value)
    assert rungs.promote(4, 0.8)  # one third of six is two: 0.9 and both of 0.8


def test_minus_infinity_counts_as_the_worst() -> None:
    assert told(Rungs([4], 2), 0.5, -math.inf, 0.6) == [True, False, True]


def test_the_order_in_which_values_were_recorded_changes_nothing() -> None:
    values = np.random.default_rng(0).random(20).tolist()
    one = Rungs([4], 3)
    other = Rungs([4], 3)
    for value in values:
        one.record(4, value)
    for value in reversed(values):
        other.record(4, value)
    assert one.promotion_threshold(4) == other.promotion_threshold(4)


def test_recording_decides_nothing_and_counts_as_much_as_asking() -> None:
    asked = Rungs([4], 3)
    recorded = Rungs([4], 3)
    for value in (0.5, 0.6, 0.9, 0.1):
        asked.promote(4, value)
        recorded.record(4, value)
    assert asked.values == recorded.values
    assert asked.promote(4, 0.55) == recorded.promote(4, 0.55)


def test_the_worst_that_goes_on_is_the_value_to_be_reached() -> None:
    rungs = Rungs([4], 3)
    assert rungs.promotion_threshold(4) is None
    for count, value in enumerate((0.3, 0.1, 0.5, 0.2, 0.4, 0.6), start=1):
        rungs.record(4, value)
        found = rungs.promotion_threshold(4)
        assert found is not None
        assert sum(other >= found for other in rungs.values[4, ""]) == math.ceil(count / 3)


def test_a_small_stratum_is_compared_with_all_and_a_large_one_with_itself() -> None:
    rungs = Rungs([4], 3)
    for value in np.linspace(0.6, 0.9, 20):
        rungs.record(4, float(value), "fast")
    assert not rungs.promote(4, 0.3, "slow")  # alone of its kind: compared with the fast ones, and far behind
    for value in np.linspace(0.1, 0.2, 20):
        rungs.record(4, float(value), "slow")
    assert rungs.promote(4, 0.31, "slow")  # by now the best of many slow ones
    assert not rungs.promote(4, 0.31, "fast")
    assert not rungs.promote(4, 0.65, "fast")  # it would pass among all, but not among the fast


def test_strata_do_not_mix_once_they_are_large() -> None:
    rungs = Rungs([4], 3)
    for value in range(30):
        rungs.record(4, float(value), "slow")
        rungs.record(4, float(value) + 100, "fast")
    slow, fast, all_of_them = (rungs.promotion_threshold(4, stratum) for stratum in ("slow", "fast", ""))
    assert slow is not None
    assert fast is not None
    assert all_of_them is not None
    assert slow < 30 <= all_of_them < fast


def test_rungs_do_not_mix() -> None:
    rungs = Rungs([4, 12], 3)
    for value in range(10):
        rungs.record(12, float(value))
    assert rungs.promotion_threshold(4) is None
    assert rungs.promote(4, -5.0)


def with_next_rung(*next_values: float) -> Rungs:
    rungs = Rungs([4, 12, 36], 3)
    for value in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        rungs.record(4, value)
    for value in next_values:
        rungs.record(12, value)
    return rungs


def test_a_trial_that_rises_to_the_best_of_the_next_rung_goes_on() -> None:
    many = tuple(np.linspace(0.6, 0.8, 9).tolist())
    assert not with_next_rung(*many).promote(4, 0.4)
    assert with_next_rung(*many).promote(4, 0.4, rising_to=0.85)
    assert not with_next_rung(*many).promote(4, 0.4, rising_to=0.65)


def test_a_next_rung_that_hardly_anybody_reached_rescues_nobody() -> None:
    assert not with_next_rung().promote(4, 0.4, rising_to=9.0)
    assert not with_next_rung(0.1).promote(4, 0.4, rising_to=9.0)


def test_at_the_last_rung_nothing_is_left_to_rise_to() -> None:
    rungs = with_next_rung()
    for value in (0.5, 0.6, 0.7):
        rungs.record(36, value)
    assert not rungs.promote(36, 0.1, rising_to=9.0)


def test_rising_to_less_does_not_stop_a_trial_that_is_among_the_best() -> None:
    assert with_next_rung(*[0.9] * 9).promote(4, 0.99, rising_to=0.0)


@pytest.mark.parametrize(
    ("grace", "factor", "top", "expected"),
    [
        (4, 3, 40, [4, 12, 36]),
        (4, 3, 36, [4, 12]),  # at full training nothing is left to decide
        (1, 2, 9, [1, 2, 4, 8]),
        (1, 2, 8, [1, 2, 4]),
        (5, 4, 19, [5]),
        (4, 3, 4, []),
        (5, 3, 4, []),
    ],
)
def test_milestones_are_the_grace_and_its_multiples_below_full_training(
    grace: float, factor: float, top: float, expected: list[float]
) -> None:
    assert milestones(grace, factor, top) == pytest.approx(expected)


def test_milestones_of_a_factor_that_is_no_whole_number_never_reach_the_top() -> None:
    found = milestones(0.1, math.sqrt(10), 100.0)
    assert found == pytest.approx([0.1, 0.1 * 10**0.5, 1, 10**0.5, 10, 10**1.5])


def test_a_curve_that_rises_by_the_logarithm_is_carried_on_at_half_its_rise() -> None:
    curve = [(float(epoch), 0.2 + 0.1 * math.log(epoch)) for epoch in range(1, 9)]
    assert extrapolate(curve, 24) == pytest.approx(0.2 + 0.1 * math.log(8) + 0.05 * math.log(24 / 8))


def test_a_curve_of_two_points_is_carried_on_by_both() -> None:
    assert extrapolate([(1, 0.1), (2, 0.2)], 4) == pytest.approx(0.25)
    assert extrapolate([(3, 0.1), (4, 0.2)], 4) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "curve", [[], [(4, 0.5)], [(2, 0.5), (4, 0.5)], [(2, 0.6), (4, 0.5)], [(2, 0.1), (3, 0.7), (4, 0.1)]]
)
def test_a_curve_that_is_too_short_or_does_not_rise_is_not_carried_on(curve: list[tuple[float, float]]) -> None:
    assert extrapolate(curve, 12) is None


def test_a_curve_is_carried_on_by_its_latter_half_not_its_steep_beginning() -> None:
    flat_at_the_end = [(1, 0.1), (2, 0.5), (4, 0.8), (8, 0.81)]
    assert extrapolate(flat_at_the_end, 16) == pytest.approx(0.815)
