"""The rest of a budget when a run is resumed."""

from __future__ import annotations

import pytest

from launch.search.budget import budget_note, resume_options
from launch.search.prepare import RunOptions
from visionsweep.run_dir.sessions import same_session, spent_s, versions_before, versions_changed

BUDGET = RunOptions(data="photos", budget_s=240.0)


def test_what_passes_between_two_commands_is_not_spent() -> None:
    search_json = {"started": 1000.0, "resumed": [5000.0, 9000.0]}
    assert spent_s(search_json, []) == 0
    assert spent_s(search_json, [1010.0, 1080.0]) == 80
    assert spent_s(search_json, [5030.0, 1080.0, 1010.0, 9001.0]) == 80 + 30 + 1


def test_a_run_that_was_never_gone_on_with_has_spent_all_the_time_to_its_last_line() -> None:
    assert spent_s({"started": 1000.0}, [1010.0, 1200.0]) == 200


def test_what_is_left_of_the_budget_is_counted_on() -> None:
    session, options = resume_options(BUDGET, num_proposed=6, spent_s=80.0, more_trials=0, budget_s=None)
    assert (session.budget_s, session.num_trials) == (160.0, None)
    assert options == BUDGET
    assert budget_note(session, options) == "2m40s of the budget of 4m00s is left."


@pytest.mark.parametrize("spent", [225.0, 236.0, 300.0])
def test_a_spent_budget_lets_what_was_interrupted_go_on_and_proposes_nothing(spent: float) -> None:
    for num_trials in (None, 50):
        was = RunOptions(data="photos", budget_s=240.0, num_trials=num_trials)
        session, options = resume_options(was, num_proposed=6, spent_s=spent, more_trials=0, budget_s=None)
        assert (session.budget_s, session.num_trials) == (None, 6)
        assert options == was
        assert str(budget_note(session, options)).startswith("The budget of 4m00s is spent: ")


def test_a_new_budget_is_that_of_the_session_and_added_to_what_is_spent() -> None:
    session, options = resume_options(BUDGET, num_proposed=6, spent_s=300.0, more_trials=0, budget_s=60.0)
    assert (session.budget_s, session.num_trials) == (60.0, None)
    assert options.budget_s == 360.0
    again, _ = resume_options(options, num_proposed=9, spent_s=320.0, more_trials=0, budget_s=None)
    assert again.budget_s == pytest.approx(40.0)


def test_further_trials_are_what_ends_the_run_from_then_on() -> None:
    session, options = resume_options(BUDGET, num_proposed=6, spent_s=80.0, more_trials=5, budget_s=None)
    assert (session.budget_s, session.num_trials) == (None, 11)
    again, _ = resume_options(options, num_proposed=8, spent_s=100.0, more_trials=0, budget_s=None)
    assert (again.budget_s, again.num_trials) == (None, 11)


def test_a_run_without_a_budget_goes_on_to_its_number_of_trials() -> None:
    was = RunOptions(data="photos", num_trials=50)
    session, options = resume_options(was, num_proposed=6, spent_s=80.0, more_trials=0, budget_s=None)
    assert session == options == was
    assert budget_note(session, options) is None


def test_a_resume_is_a_time_and_the_versions_then_or_of_old_runs_the_time_alone() -> None:
    search_json = {"started": 1000.0, "resumed": [5000.0, {"time": 9000.0, "versions": {"torch": "3.0"}}]}
    assert spent_s(search_json, [1010.0, 5030.0, 9001.0]) == 10 + 30 + 1
    assert same_session(search_json, 5001.0, 5030.0)
    assert not same_session(search_json, 1010.0, 5030.0)
    assert not same_session(search_json, 5030.0, 9001.0)


def test_other_versions_than_those_of_the_last_session_are_told() -> None:
    begun = {"started": 1.0, "versions": {"torch": "2.0", "ray": "2.60"}}
    resumed = {**begun, "resumed": [{"time": 2.0, "versions": {"torch": "2.1", "ray": "2.60"}}]}
    now = {"torch": "2.1", "ray": "2.60", "timm": "1.0"}
    assert versions_changed(versions_before(begun), now) == "torch 2.0 -> 2.1"
    assert versions_changed(versions_before(resumed), now) is None
    assert versions_changed(versions_before({"started": 1.0}), now) is None
