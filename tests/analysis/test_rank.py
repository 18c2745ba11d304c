from __future__ import annotations

import pytest

from visionsweep.core.objectives import Objective
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.trials import Trial


def trial(trial_id: str, status: str, *scores: float) -> Trial:
    epochs = [{"epoch": i, "metrics": {"m": score}, "seconds": 1.0} for i, score in enumerate(scores, start=1)]
    return Trial(trial_id, {}, {}, epochs, status)


def test_only_complete_trials_compete_for_best() -> None:
    trials = [
        trial("0000", "pruned", 0.99),
        trial("0001", "complete", 0.5, 0.7, 0.6),
        trial("0002", "failed"),
        trial("0003", "complete", 0.8),
        trial("0004", "diverged", 0.3),
    ]
    assert [t.trial_id for t in ranked(trials, [Objective("m", "max")])] == ["0003", "0001", "0000", "0004", "0002"]


def test_a_loss_is_ranked_from_below() -> None:
    trials = [trial("0000", "complete", 0.5), trial("0001", "complete", 0.9, 0.2), trial("0002", "complete", 0.4)]
    assert [t.trial_id for t in ranked(trials, [Objective("m", "min")])] == ["0001", "0002", "0000"]


def test_ties_go_to_the_earlier_trial_and_the_earlier_epoch() -> None:
    trials = [trial("0001", "complete", 0.5, 0.5), trial("0000", "complete", 0.5)]
    assert [t.trial_id for t in ranked(trials, [Objective("m", "max")])] == ["0000", "0001"]
    assert trials[0].best("m", "max") == (0.5, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_value_that_is_not_finite_is_no_score(value: float) -> None:
    assert trial("0000", "complete", value).best("m", "max") is None


def test_a_complete_trial_without_a_score_is_not_the_best() -> None:
    trials = [trial("0000", "complete", float("nan")), trial("0001", "pruned", 0.3), trial("0002", "complete", 0.2)]
    assert [t.trial_id for t in ranked(trials, [Objective("m", "max")])] == ["0002", "0001", "0000"]
