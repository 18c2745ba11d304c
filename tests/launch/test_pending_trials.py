"""Trials whose process has not begun, when the search is over and when the process dies."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search.search_generator import SearchGenerator
from rich.console import Console
from support import lines

from launch.pruners.around import StartingTrials
from launch.search.callback import RunCallback
from launch.search.hang_detection import HangDetector
from launch.search.progress import Progress
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from launch.search.tuning import MAX_RETRIES, tune_until_done
from launch.trial_notes import TrialNotes
from search_spaces import Float, Search

pytestmark = pytest.mark.with_ray

SEARCH = Search(
    task="multiclass",
    space={
        "model": {"backbone": "test_resnet", "weights": "none"},
        "optimizer": {"name": "sgd", "lr": Float(1e-3, 0.3, log=True)},
        "batch_size": 8,
    },
    epochs=4,
).for_task("multiclass")


def slow_to_start() -> type[tune.Trainable]:
    """A trial whose process takes two minutes until it trains. Made here, so that it travels to Ray's workers whole."""

    class SlowToStart(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            time.sleep(120)

        def step(self) -> dict[str, Any]:
            ended = {"status": "interrupted", "reason": "began after all", "done": True}
            return {"trial_id": self.config["trial_id"], **ended}

    return SlowToStart


@pytest.mark.usefixtures("ray_session")
def test_a_search_that_is_over_waits_for_no_process_that_is_starting(tmp_path: Path) -> None:
    records = Records.create(tmp_path / "run", {"search": {}})
    deadline = time.monotonic() + 4
    # Two trials have half a core each and are starting by then, while the others wait for theirs.
    notes = TrialNotes()
    searcher = StudySearcher(SEARCH, records, seed=0, num_trials=4, deadline=deadline, notes=notes)
    progress = Progress(records, SEARCH, Console(file=io.StringIO()), 4, deadline)
    callback = RunCallback(records, SEARCH, progress, 5, notes)
    tune_until_done(
        tune.with_resources(slow_to_start(), {"cpu": 0.5}),
        searcher,
        SEARCH,
        callback,
        HangDetector(tmp_path / "run", 2, notes),
        2,
    )
    assert time.monotonic() - deadline < 30, "a process that starts is not waited for"
    ended = [row for row in lines(tmp_path / "run" / "trials.jsonl") if row["event"] == "ended"]
    assert sorted(row["trial_id"] for row in ended) == ["0000", "0001", "0002", "0003"]
    assert {(row["status"], row["reason"]) for row in ended} == {("interrupted", "the budget is spent")}
    assert not searcher.asked, "no trial of the study is left open"


@pytest.mark.usefixtures("ray_session")
def test_a_search_that_is_stopped_just_when_a_trial_was_proposed_ends_in_peace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(config: dict[str, Any]) -> None:
        searcher.stop()  # before Tune has asked for a process

    records = Records.create(tmp_path / "run", {"search": {}})
    notes = TrialNotes()
    searcher = StudySearcher(SEARCH, records, seed=0, num_trials=4, deadline=None, valid=stop, notes=notes)
    progress = Progress(records, SEARCH, Console(file=io.StringIO()), 4, None)
    callback = RunCallback(records, SEARCH, progress, 5, notes)
    trainable = tune.with_resources(slow_to_start(), {"cpu": 0.5})
    tune_until_done(trainable, searcher, SEARCH, callback, HangDetector(tmp_path / "run", 2, notes), 2)
    ended = [row for row in lines(tmp_path / "run" / "trials.jsonl") if row["event"] == "ended"]
    assert [(row["trial_id"], row["status"], row["reason"]) for row in ended] == [
        ("0000", "interrupted", "the search was asked to stop")
    ]
    assert capsys.readouterr().out == "", "what is to be said stands on the search's own terminal"
    assert not searcher.asked, "no trial of the study is left open"


def test_a_trial_whose_process_died_before_it_began_is_proposed_again_after_the_last_one(tmp_path: Path) -> None:
    notes = TrialNotes()
    records = Records.create(tmp_path / "run", {"search": {}})
    searcher = StudySearcher(SEARCH, records, 0, 2, None, notes=notes)
    proposed = SearchGenerator(searcher)
    scheduler = StartingTrials(FIFOScheduler(), lambda: None, lambda reason: None, notes, MAX_RETRIES)
    proposed.add_configurations({"tune": {"run": slow_to_start(), "num_samples": sys.maxsize}})
    first = searcher.suggest("first")
    searcher.suggest("second")
    assert proposed.next_trial() is None
    assert proposed.is_finished(), "two trials, no more"

    scheduler.on_trial_error(
        SimpleNamespace(search_alg=proposed), SimpleNamespace(config=first, status="PENDING", trial_id="first")
    )
    proposed.on_trial_complete("first", error=True)
    assert not proposed.is_finished()
    again = searcher.suggest("third")
    assert isinstance(first, dict)
    assert isinstance(again, dict)
    assert (again["trial_id"], again["config"]) == (first["trial_id"], first["config"])
