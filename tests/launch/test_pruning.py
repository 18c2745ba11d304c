"""Which trials go on, with scripted results: no training, no Ray session."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from launch.pruning import build_scheduler
from search_spaces import Search


@dataclass
class Scripted:
    """What a scheduler looks at in a trial."""

    trial_id: str
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config = {"trial_id": self.trial_id}


def search(metric: str = "val/accuracy", **values: Any) -> Search:
    return Search(task="multiclass", space={}, metric=metric, **values).for_task("multiclass")


def rungs(scheduler: TrialScheduler) -> list[int]:
    return sorted(int(float(epoch)) for epoch in re.findall(r"Iter ([\d.]+):", scheduler.debug_string()))


def decisions(scheduler: TrialScheduler, scores: list[float], epoch: int, metric: str = "val/accuracy") -> list[str]:
    """What each trial is told that reports its score at `epoch`, one after the other."""
    told = []
    for number, score in enumerate(scores):
        trial = Scripted(f"{epoch}-{number:04d}")
        scheduler.on_trial_add(None, trial)
        told.append(scheduler.on_trial_result(None, trial, {"epoch": epoch, metric: score, "trial_id": trial.trial_id}))
    return told


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "expected"),
    [(4, 3, 40, [4, 12, 36]), (1, 2, 9, [1, 2, 4, 8]), (5, 4, 19, [5])],
)
def test_trials_are_compared_at_the_grace_and_its_multiples(
    grace: int, factor: int, epochs: int, expected: list[int]
) -> None:
    scheduler = build_scheduler(search(grace_epochs=grace, reduction_factor=factor, epochs=epochs))
    assert isinstance(scheduler, AsyncHyperBandScheduler)
    assert rungs(scheduler) == expected


@pytest.mark.parametrize("epochs", [4, 3])
def test_a_search_as_short_as_its_grace_prunes_nothing(epochs: int) -> None:
    scheduler = build_scheduler(search(grace_epochs=4, epochs=epochs))
    assert isinstance(scheduler, FIFOScheduler)
    assert not isinstance(scheduler, AsyncHyperBandScheduler)


@pytest.mark.parametrize(("metric", "sign"), [("val/accuracy", 1), ("val/loss", -1)])
def test_the_best_third_of_a_rung_goes_on(metric: str, sign: int) -> None:
    scheduler = build_scheduler(search(metric, grace_epochs=4, reduction_factor=3, epochs=40))
    scores = [sign * score for score in (0.5, 0.6, 0.9, 0.1, 0.2, 0.95)]
    go_on = [told == TrialScheduler.CONTINUE for told in decisions(scheduler, scores, 4, metric)]
    assert go_on == [True, True, True, False, False, True]  # the first is compared with nobody


def test_nobody_is_stopped_between_the_rungs_and_everybody_at_the_end() -> None:
    scheduler = build_scheduler(search(grace_epochs=4, reduction_factor=3, epochs=40))
    assert set(decisions(scheduler, [0.9, 0.1], 3)) == {TrialScheduler.CONTINUE}
    assert set(decisions(scheduler, [0.9, 0.1], 40)) == {TrialScheduler.STOP}
