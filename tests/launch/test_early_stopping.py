"""Only trials that began worse than all trials that ever passed the first rung end before it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from scripted_scheduler import ACCURACY, Driver, search

from launch.pruners.early_stopping import LEAST_PASSED, DominatedStarts
from launch.samplers.encoding import Encoder
from launch.samplers.history import History, Ladder
from search_spaces import Float
from visionsweep.core.objectives import parse_objectives
from visionsweep.run_dir.trials import WARM_START, Trial

FACTOR = 3


def rising_to(value: float) -> list[tuple[float, float]]:
    """A course of four epochs that shows a quarter more of its value at each."""
    return [(float(epoch), value * epoch / 4) for epoch in range(1, 5)]


def after(*values: float, stratum: str = "") -> DominatedStarts:
    beginnings = DominatedStarts(FACTOR)
    for value in values:
        beginnings.arrive(rising_to(value), stratum)
    return beginnings


TWELVE = [0.1 * number for number in range(1, 13)]  # the best third: 0.9, 1.0, 1.1, 1.2


def test_a_trial_ends_where_it_is_worse_than_all_that_passed_at_its_epoch() -> None:
    beginnings = after(*TWELVE)
    assert beginnings.is_dominated(rising_to(0.8)[:1])
    assert beginnings.is_dominated(rising_to(0.8)[:3])
    assert not beginnings.is_dominated(rising_to(0.95)[:1])


def test_a_trial_as_good_as_the_worst_that_passed_goes_on() -> None:
    assert not after(*TWELVE).is_dominated(rising_to(0.9)[:2])


def test_nothing_ends_before_enough_have_passed() -> None:
    values = TWELVE[: FACTOR * (LEAST_PASSED - 1)]
    assert not after(*values).is_dominated([(1.0, -9.0)])
    assert after(*values, 0.05).is_dominated([(1.0, -9.0)])


def test_a_late_bloomer_that_passed_protects_those_that_begin_like_it() -> None:
    beginnings = after(*TWELVE)
    assert beginnings.is_dominated([(1.0, 0.05)])
    beginnings.arrive([(1.0, 0.01), (2.0, 0.02), (3.0, 0.5), (4.0, 1.5)])
    assert not beginnings.is_dominated([(1.0, 0.05)])


def test_a_trial_that_passed_and_has_shown_nothing_so_early_protects_everybody() -> None:
    beginnings = after(*TWELVE)
    beginnings.arrive([(3.0, 0.5), (4.0, 1.5)])
    assert not beginnings.is_dominated([(1.0, -9.0)])


def test_every_trial_that_ended_early_lets_more_count_as_passed() -> None:
    beginnings = after(*TWELVE)
    course = rising_to(0.75)[:1]
    assert beginnings.is_dominated(course)
    for _ in range(6):  # the best sixth of eighteen and more: 0.7 has passed, too
        beginnings.end()
    assert not beginnings.is_dominated(course)


def test_strata_do_not_mix() -> None:
    beginnings = after(*TWELVE, stratum="slow")
    assert beginnings.is_dominated([(1.0, 0.05)], "slow")
    assert not beginnings.is_dominated([(1.0, 0.05)], "fast")


def plainly_hopeless(arrived: list[list[tuple[float, float]]], ended: int, course: list[tuple[float, float]]) -> bool:
    """Decide by the definition, from everything that has passed."""
    best_first = sorted(arrived, key=lambda other: -other[-1][1])
    passed = best_first[: math.ceil((len(arrived) + ended) / 3)]
    position, best = course[-1]
    then = [max((value for at, value in other if at <= position), default=-math.inf) for other in passed]
    return len(passed) >= LEAST_PASSED and best < min(then)


@pytest.mark.parametrize("steps", [1.0, 0.5, None], ids=["epochs", "half epochs", "seconds"])
def test_what_is_kept_for_speed_decides_as_the_definition_does(steps: float | None) -> None:
    rng = np.random.default_rng(5)
    beginnings = DominatedStarts(3.0)
    arrived = []
    ended = 0
    said = []
    for _ in range(600):
        lengths = rng.uniform(0.3, 2.0, 4) if steps is None else np.full(4, steps)
        # Coarse values: ties are what a shortcut gets wrong.
        best = np.maximum.accumulate(np.round(rng.normal(rng.normal(), 0.5, 4), 1))
        course = list(zip(np.cumsum(lengths).tolist(), best.tolist(), strict=True))
        for end in range(1, 4):
            said.append(beginnings.is_dominated(course[:end]))
            assert said[-1] == plainly_hopeless(arrived, ended, course[:end])
        if said[-1]:
            beginnings.end()
            ended += 1
        else:
            beginnings.arrive(course)
            arrived.append(course)
    assert 10 < sum(said) < len(said) / 2, "both answers were given"


def driver_after_twelve(rungs: str = "epochs") -> Driver:
    driver = Driver(search(rungs=rungs))
    for number, value in enumerate(TWELVE):
        for epoch, best in rising_to(value):
            driver.continues(f"one{number}", int(epoch), best)
    return driver


@pytest.mark.parametrize("rungs", ["epochs", "tiers"])
def test_the_scheduler_ends_a_hopeless_trial_at_its_first_epoch_and_lets_others_come_to_the_rung(rungs: str) -> None:
    driver = driver_after_twelve(rungs)
    assert not driver.continues("hopeless", 1, 0.01)
    assert driver.continues("hopeful", 1, 0.3)
    assert not driver.continues("hopeful", 2, 0.31)  # falls behind on the way
    said = f"{ACCURACY} 0.31 at epoch 2: every trial that passed the first rung was better by then"
    assert driver.scheduler.notes.pruned["hopeful"] == said


def test_a_trial_that_ended_early_counts_at_the_first_rung() -> None:
    few = driver_after_twelve()
    many = driver_after_twelve()
    for number in range(9):
        assert not many.continues(f"hopeless{number}", 1, 0.01)
    for driver in (few, many):
        driver.scheduler.dominated_starts = DominatedStarts(FACTOR)  # what is asked here is the rung
    assert not few.continues("middling", 4, 0.75)
    assert many.continues("middling", 4, 0.75)


def test_a_search_that_goes_on_ends_the_same_trials_early() -> None:
    driver = driver_after_twelve()
    assert not driver.continues("hopeless", 1, 0.01)
    for trial in driver.recorded.values():
        trial.status = "pruned" if trial.trial_id == "hopeless" else "running"
    later = Driver(driver.search, driver.recorded.values())
    assert later.scheduler.dominated_starts == driver.scheduler.dominated_starts
    for driver_, (name, value) in itertools.product((driver, later), {"a": 0.15, "b": 0.3}.items()):
        assert driver_.continues(name, 1, value) == (name == "b")


def test_a_bad_warm_start_changes_no_decision_about_the_search_s_own_trials() -> None:
    plain = Driver(search())
    warm = Driver(search())
    for number in range(3):
        warm.add(f"000{number}", origin=WARM_START)
        for epoch in (1, 2, 3, 4):
            assert warm.continues(f"000{number}", epoch, 0.01 * epoch + 0.001 * number)
    values = np.random.default_rng(0).uniform(0.2, 1.0, 40).tolist()

    def tell(driver: Driver, numbers: range) -> dict[str, int]:
        """The epochs that each trial came to."""
        reached = {}
        for name, course in ((f"{number:04d}", rising_to(values[number])) for number in numbers):
            ended = (int(epoch) for epoch, best in course if not driver.continues(name, int(epoch), best))
            reached[name] = next(ended, 5)
            driver.recorded[name].status = "pruned" if reached[name] < 5 else "running"
        return reached

    assert tell(warm, range(3, 20)) == tell(plain, range(3, 20))
    later = Driver(warm.search, warm.recorded.values())
    assert later.scheduler.rungs == warm.scheduler.rungs
    reached = tell(later, range(20, 40))
    assert reached == tell(plain, range(20, 40))
    assert min(reached.values()) == 1, "some ended early"


def test_a_trial_that_says_what_another_has_said_ends_at_its_third_epoch_and_leaves_no_mark() -> None:
    driver = Driver(search())
    for epoch, value in enumerate((0.3, 0.4, 0.5), start=1):
        assert driver.continues("first", epoch, value)
        assert driver.continues("close", epoch, value + 1e-9)
        assert driver.continues("again", epoch, value) == (epoch < 3)
    assert driver.continues("late", 1, 0.3)
    assert driver.continues("late", 2, 0.6)
    assert driver.continues("late", 3, 0.5), "it was another one at its second"
    assert driver.scheduler.notes.pruned == {"again": "its first 3 epochs are trial first's to the last digit"}
    assert driver.scheduler.rungs.values == {}
    assert not any(known.ended for known in driver.scheduler.dominated_starts.strata.values())


def test_an_epoch_that_is_told_twice_is_no_repetition() -> None:
    driver = Driver(search())
    for epoch in (1, 2, 3, 3, 1, 2, 3, 4):
        assert driver.continues("first", epoch, 0.1 * epoch)


def test_a_search_that_goes_on_knows_who_said_it_first() -> None:
    driver = Driver(search())
    for name, last in {"first": 4, "again": 3}.items():
        for epoch in range(1, last + 1):
            driver.continues(name, epoch, 0.1 * epoch)
        driver.recorded[name].status = "pruned" if name == "again" else "running"
    later = Driver(driver.search, driver.recorded.values())
    assert later.scheduler.rungs == driver.scheduler.rungs
    assert later.scheduler.dominated_starts == driver.scheduler.dominated_starts
    assert later.continues("first", 5, 0.9)
    assert [later.continues("third", epoch, 0.1 * epoch) for epoch in (1, 2, 3)] == [True, True, False]


def test_with_several_objectives_nothing_ends_before_the_first_rung() -> None:
    driver = Driver(search(metric=None, objectives=(ACCURACY, "-parameters")))
    for number in range(12):
        for epoch in range(1, 5):
            row = {"trial_id": f"{number}", "epoch": epoch, "metrics": {ACCURACY: 0.1 * number}, "seconds": 1.0}
            driver.recorded[f"{number}"] = driver.recorded.get(f"{number}", Trial(f"{number}", {}, {}))
            driver.recorded[f"{number}"].epochs.append({**row, "parameters": 10})
    later = Driver(driver.search, driver.recorded.values())
    trial = later.add("hopeless")
    result = {"trial_id": trial.trial_id, "epoch": 1, "seconds": 1.0, ACCURACY: 0.0, "parameters": 99}
    assert later.scheduler.on_trial_result(None, trial, result) == "CONTINUE"


def test_the_model_learns_from_a_trial_that_ended_before_the_first_rung() -> None:
    encoder = Encoder({"x": Float(0.0, 1.0)})
    objectives = parse_objectives((ACCURACY,), "multiclass")
    history = History(encoder, Ladder(grace_epochs=4, epochs=36), objectives)
    trial = create_trial(
        state=TrialState.PRUNED, value=None, params={"x": 0.5}, distributions={"x": FloatDistribution(0.0, 1.0)},
        intermediate_values={1: 0.2, 2: 0.1},
    )  # fmt: skip
    study = optuna.create_study(direction="maximize")
    study.add_trial(trial)
    history.update(study.get_trials(deepcopy=False), proposing=1)
    assert history.num_observed == history.num_ended == 1
    (seen,) = history._ended
    assert seen.values == (0.2,)  # the best so far
    assert -1 < seen.fidelity == Ladder(4, 36).fidelity(2) < 0
