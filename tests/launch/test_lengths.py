"""Trials of different lengths: how they are compared, learned from and fitted into a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from scripted_scheduler import Driver, search

from launch.pruners.ray_pruners import raw_epochs
from launch.samplers.encoding import Encoder
from launch.samplers.history import History, Ladder
from launch.samplers.lengths import Lengths
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces.grammar import Branch, Float, Int, Pick
from search_spaces.search import Search

SPACE = Branch({"probe": {"a": Pick(1, 2), "epochs": 1}, "finetune": {"lr": Float(0, 1), "epochs": Pick(4, 12)}})


def with_regimes(space: Any = SPACE, **values: Any) -> Search:
    return Search(task="multiclass", space=space, **{"epochs": 12, **values}).for_task("multiclass")


@pytest.mark.parametrize(
    ("space", "params", "epochs"),
    [
        (SPACE, {"regime": "probe", "regime/probe/a": 1}, 1),
        (SPACE, {"regime": "finetune", "regime/finetune/epochs": 4}, 4),
        (SPACE, {"regime": "finetune"}, 12),
        ({"a": Pick(1, 2), "epochs": Int(2, 9)}, {"a": 1, "epochs": 5}, 5),
        ({"a": Pick(1, 2), "epochs": 3}, {"a": 1}, 3),
        ({"a": Pick(1, 2)}, {"a": 1}, 12),
    ],
)
def test_the_length_of_a_configuration_is_told_by_its_space(space: Any, params: dict[str, Any], epochs: int) -> None:
    full = with_regimes(space).full_space
    lengths = Lengths(full, Encoder(full), 12)
    assert lengths.of_params(params) == epochs
    assert lengths.vary == (space is SPACE or isinstance(space.get("epochs"), Int))
    assert lengths.shares(Encoder(full).encode(params)[None]) == pytest.approx([epochs / 12])


def test_a_value_is_known_at_the_share_of_its_own_schedule() -> None:
    chosen = with_regimes()
    encoder = Encoder(chosen.full_space)
    ladder = Ladder(4, 12)
    history = History(encoder, ladder, chosen.compared)
    study = optuna.create_study(direction="maximize")
    for params, values in (
        ({"regime": "probe", "regime/probe/a": 1}, {1: 0.9}),
        ({"regime": "finetune", "regime/finetune/lr": 0.5, "regime/finetune/epochs": 4}, {1: 0.1, 2: 0.2}),
        ({"regime": "finetune", "regime/finetune/lr": 0.5, "regime/finetune/epochs": 12}, {6: 0.3}),
    ):
        study.enqueue_trial(params)
        trial = study.ask()
        chosen.draw(trial)
        for epoch, value in values.items():
            trial.report(value, epoch)
    history.update(study.get_trials(), proposing=-1)
    _, fidelity, values = history.observations(10, np.random.default_rng(0), lambda seen: seen[:, 0])
    assert values[:, 0].tolist() == [0.9, 0.1, 0.2, 0.3]
    # 1 of 1. 1 of 4 is between nothing and the first rung at a third. 2 of 4 is where 6 of 12 is.
    assert fidelity.tolist() == [1.0, ladder.fidelity(3), ladder.fidelity(6), ladder.fidelity(6)]


def test_a_trial_of_one_epoch_is_never_compared_and_is_no_bar_for_others() -> None:
    driver = Driver(search(epochs=36))
    for number in range(9):
        assert driver.continues(f"probe{number}", 1, 0.99, epochs=1)
    assert driver.scheduler.rungs.values == {}
    finetunings = [driver.continues(f"tuned{number}", 4, value) for number, value in enumerate((0.2, 0.3, 0.1, 0.25))]
    assert finetunings[:2] == [True, True]
    assert driver.continues("weak", 1, 0.01)
    assert not driver.scheduler.dominated_starts.strata[""].arrived[3][0][0] < 4  # none of the probes


def test_a_short_trial_is_compared_where_it_has_an_epoch_near_the_rung() -> None:
    driver = Driver(search(epochs=36))  # rungs at 4 and 12
    driver.fill(np.linspace(0.5, 0.9, 9), 4)
    assert driver.continues("three", 1, 0.1, epochs=3)  # at 12 of 36: past the first rung, at the second alone
    assert driver.scheduler.rungs.values.keys() == {(4, ""), (12, "")}
    assert not driver.continues("nine", 1, 0.1, epochs=9)  # at 4 of 36
    assert driver.continues("five", 1, 0.01, epochs=5)  # at 7.2 of 36, which is nearer to the second rung
    assert not driver.continues("five", 2, 0.02)
    assert driver.scheduler.rungs.values[12, ""] == [0.02, 0.1]


def test_trials_that_begin_alike_and_differ_in_length_are_no_repeats() -> None:
    driver = Driver(search(epochs=36))
    for epoch in (1, 2, 3):
        assert driver.continues("long", epoch, 0.5)
        assert driver.continues("short", epoch, 0.5, epochs=18)
    driver.continues("same", 1, 0.5), driver.continues("same", 2, 0.5)
    assert not driver.continues("same", 3, 0.5)


def test_a_short_trial_fits_into_what_is_left_of_a_budget(tmp_path: Path) -> None:
    clock = [0.0]
    records = Records.create(tmp_path / "run", {"name": "budget"})
    searcher = StudySearcher(with_regimes(), records, 0, None, 100.0, valid=lambda config: None, now=lambda: clock[0])
    for name in ("one", "two"):
        assert isinstance(searcher.suggest(name), dict)
        searcher.on_trial_complete(name, {"epoch": 1, "seconds": 10.0, "val/accuracy": 0.5, "status": "pruned"})
    short, long = ({"regime": "finetune", "regime/finetune/epochs": epochs} for epochs in (4, 12))
    assert searcher._fits(short)
    assert not searcher._fits(long)  # twelve epochs of ten seconds: there are shorter ones to propose
    clock[0] = 85.0
    assert not searcher._fits(short)
    assert searcher._fits({"regime": "probe", "regime/probe/a": 1})


def test_where_all_trials_are_of_one_length_the_first_rung_has_to_fit(tmp_path: Path) -> None:
    records = Records.create(tmp_path / "run", {"name": "budget"})
    one_length = with_regimes({"a": Pick(1, 2)})  # of 12 epochs, compared at the fourth
    searcher = StudySearcher(one_length, records, 0, None, 50.0, valid=lambda config: None, now=lambda: 0.0)
    assert isinstance(searcher.suggest("one"), dict)
    searcher.on_trial_complete("one", {"epoch": 1, "seconds": 10.0, "val/accuracy": 0.5, "status": "pruned"})
    assert searcher._fits({"a": 2})


@pytest.mark.parametrize("pruner", ["hyperband", "median"])
def test_rays_rules_compare_equal_shares_of_schedules(pruner: str) -> None:
    """Trials of 40 epochs are better than those of 12 at each share, and worse at each epoch."""
    driver = Driver(search(epochs=40, pruner=pruner))
    for number in range(8):
        driver.ends(f"probe{number}", 1, 0.95)
        assert all(driver.continues(f"short{number}", epoch, 0.2 + 0.035 * epoch, epochs=12) for epoch in range(1, 12))
        driver.ends(f"short{number}", 12, 0.62)
    for number in range(8):
        assert all(driver.continues(f"long{number}", epoch, 0.2 + 0.02 * epoch) for epoch in range(1, 40))
        driver.ends(f"long{number}", 40, 1.0)
    bad = [all(driver.continues(f"bad{number}", epoch, 0.01 * epoch) for epoch in range(1, 40)) for number in range(8)]
    assert not all(bad)


def test_a_short_trial_leaves_no_mark_in_a_rung_that_it_passed_between_two_epochs() -> None:
    driver = Driver(search(epochs=36, pruner="hyperband"))  # rungs at 4 and 12
    for number in range(30):
        assert driver.continues(f"three{number}", 1, 0.9, epochs=3)  # at 12 of 36
        driver.ends(f"three{number}", 3, 0.9)
    marks = {at: len(seen) for bracket in driver.scheduler._brackets for at, seen in bracket._rungs if seen}
    assert marks.keys() == {12}


def test_a_pruner_that_compares_raw_epochs_says_so_where_lengths_differ() -> None:
    (said,) = raw_epochs(with_regimes(pruner="stock"))
    assert "--pruner stock" in said
    assert raw_epochs(with_regimes(pruner="hyperband")) == []
    assert raw_epochs(with_regimes({"a": Pick(1, 2)}, pruner="stock")) == []
