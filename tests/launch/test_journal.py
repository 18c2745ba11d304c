"""study.journal as optuna-dashboard reads it: an independent process of Optuna's, with nothing of ours."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from launch.search.records import Records
from launch.search.searcher import StudySearcher
from launch.tracking import journal as module
from launch.tracking.journal import Journal
from search_spaces.grammar import Branch, Float, Int, Pick
from search_spaces.search import Search

METRIC = "val/accuracy"
SEARCH = Search(
    task="multiclass",
    space={
        "optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.3, log=True)}, "adam": {"beta": Float(0.8, 0.99)}}),
        "depth": Int(1, 5),
        "batch_size": Pick(16, 32),
    },
    epochs=4,
).for_task("multiclass")


def opened(folder: Path) -> Records:
    """Open the run in this folder, new or resumed, with its journal."""
    run_dir = folder / "run"
    records = Records.open(run_dir)[0] if run_dir.exists() else Records.create(run_dir, {"search": {}})
    records.listen(Journal(run_dir / "study.journal", "run", SEARCH, list(records.trials.values())))
    return records


def proposals(records: Records, num: int) -> list[str]:
    """The ids of so many new trials."""
    searcher = StudySearcher(SEARCH, records, 0, num_trials=None, deadline=None, valid=lambda config: None)
    searcher.unfinished.clear()
    found = []
    for number in range(num):
        proposal = searcher.suggest(f"ray-{number}")
        assert isinstance(proposal, dict)
        records.started(proposal["trial_id"])
        found.append(proposal["trial_id"])
    return found


def epoch(records: Records, trial_id: str, number: int, value: float | None) -> None:
    metrics = {"val/loss": 1.0} if value is None else {METRIC: value, "val/loss": 1.0}
    records.epoch({"trial_id": trial_id, "epoch": number, "metrics": metrics, "seconds": 1.0})


def close(records: Records) -> None:
    records.close_listeners()


def study(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="run", storage=JournalStorage(JournalFileBackend(str(path))))


def read(folder: Path) -> list[FrozenTrial]:
    return study(folder / "run" / "study.journal").trials


ENDS = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "diverged": TrialState.FAIL,
    "oom": TrialState.FAIL,
    "interrupted": TrialState.FAIL,
}


def test_every_end_of_a_trial_is_a_state_with_its_values_and_its_own_word(tmp_path: Path) -> None:
    records = opened(tmp_path)
    ids = proposals(records, len(ENDS))
    for trial_id, status in zip(ids, ENDS, strict=True):
        for number, value in ((1, 0.5), (2, 0.9), (3, 0.7)):
            epoch(records, trial_id, number, value)
        records.ended(trial_id, status, f"because of {status}")
    close(records)

    trials = read(tmp_path)
    assert len(trials) == len(ENDS)
    for trial, trial_id, (status, state) in zip(trials, ids, ENDS.items(), strict=True):
        assert trial.state == state, status
        assert trial.params == records.trials[trial_id].params
        assert trial.intermediate_values == {1: 0.5, 2: 0.9, 3: 0.7}
        assert trial.user_attrs["trial_id"] == trial_id
        assert trial.user_attrs["status"] == status
        assert trial.user_attrs["reason"] == f"because of {status}"
        assert trial.user_attrs.get("infeasible", False) == (status in ("diverged", "oom"))
    assert trials[0].value == 0.9
    assert study(tmp_path / "run" / "study.journal").best_trial.user_attrs["trial_id"] == ids[0]


def test_the_study_says_what_is_compared_and_which_way_is_better(tmp_path: Path) -> None:
    records = opened(tmp_path)
    close(records)
    found = study(tmp_path / "run" / "study.journal")
    assert found.direction == optuna.study.StudyDirection.MAXIMIZE
    assert found.user_attrs["metric"] == METRIC
    assert found.metric_names == [METRIC], "what optuna-dashboard calls its axes"
    loss = Search(task="multiclass", space={}, metric="val/loss").for_task("multiclass")
    journal = Journal(tmp_path / "loss.journal", "run", loss)
    journal.close()
    assert study(tmp_path / "loss.journal").direction == optuna.study.StudyDirection.MINIMIZE


def test_ranges_stand_in_the_journal_too(tmp_path: Path) -> None:
    records = opened(tmp_path)
    proposals(records, 6)
    close(records)
    for trial in read(tmp_path):
        assert trial.distributions.keys() == trial.params.keys()
        assert trial.distributions["depth"] == optuna.distributions.IntDistribution(1, 5)
        for name, distribution in trial.distributions.items():
            assert distribution._contains(distribution.to_internal_repr(trial.params[name]))


def test_a_running_trial_is_seen_with_its_values_before_anything_is_closed(tmp_path: Path) -> None:
    records = opened(tmp_path)
    (trial_id,) = proposals(records, 1)
    epoch(records, trial_id, 1, 0.5)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        path = tmp_path / "run" / "study.journal"
        trials = read(tmp_path) if path.exists() and path.read_text().count("\n") >= 3 else []
        if trials and trials[0].intermediate_values:
            break
        time.sleep(0.02)
    assert (trials[0].state, trials[0].intermediate_values) == (TrialState.RUNNING, {1: 0.5})
    close(records)


def test_a_trial_that_never_had_the_metric_is_not_complete(tmp_path: Path) -> None:
    records = opened(tmp_path)
    (trial_id,) = proposals(records, 1)
    epoch(records, trial_id, 1, None)
    records.ended(trial_id, "complete", "")
    close(records)
    (trial,) = read(tmp_path)
    assert (trial.state, trial.intermediate_values) == (TrialState.FAIL, {})
    assert trial.user_attrs["status"] == "complete"


def test_a_journal_that_cannot_be_written_is_a_line_in_the_log_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = Records.create(tmp_path / "run", {"search": {}})
    records.listen(Journal(tmp_path / "no such folder" / "study.journal", "run", SEARCH))
    (trial_id,) = proposals(records, 1)
    epoch(records, trial_id, 1, 0.5)
    records.ended(trial_id, "complete", "")
    with caplog.at_level(logging.WARNING):
        close(records)
    assert not (tmp_path / "no such folder").exists()
    assert "no such folder" in caplog.text
    assert "continues without it" in caplog.text
    again, _ = Records.open(tmp_path / "run")
    assert again.trials[trial_id].status == "complete"


def test_a_journal_is_closed_once_and_for_all(tmp_path: Path) -> None:
    records = opened(tmp_path)
    close(records)
    close(records)
    assert read(tmp_path) == []


def test_a_run_that_is_gone_on_with_writes_it_anew(tmp_path: Path) -> None:
    records = opened(tmp_path)
    ids = proposals(records, 3)
    for trial_id in ids:
        epoch(records, trial_id, 1, 0.5)
    records.ended(ids[0], "complete", "")
    records.ended(ids[1], "interrupted", "")
    close(records)  # the third was running when the process died

    again = opened(tmp_path)
    epoch(again, ids[1], 2, 0.6)
    again.ended(ids[1], "complete", "")
    (new,) = proposals(again, 1)
    epoch(again, new, 1, 0.1)
    close(again)
    trials = read(tmp_path)
    assert [trial.user_attrs["trial_id"] for trial in trials] == [*ids, new]
    states = [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING, TrialState.RUNNING]
    assert [trial.state for trial in trials] == states
    assert [trial.value for trial in trials] == [0.5, 0.6, None, None]
    assert trials[1].intermediate_values == {1: 0.5, 2: 0.6}


def test_what_ended_before_keeps_its_word_when_the_journal_is_written_anew(tmp_path: Path) -> None:
    records = opened(tmp_path)
    ids = proposals(records, len(ENDS))
    for trial_id, status in zip(ids, ENDS, strict=True):
        epoch(records, trial_id, 1, 0.5)
        records.ended(trial_id, status, "because")
    close(records)
    before: list[dict[str, Any]] = [trial.user_attrs for trial in read(tmp_path)]
    close(opened(tmp_path))
    after = [trial.user_attrs for trial in read(tmp_path)]
    for was, now, status in zip(before, after, ENDS, strict=True):
        if status != "interrupted":  # an interrupted one is resumed
            assert (now.get("status"), now.get("reason")) == (was["status"], was["reason"]), status


def test_a_damaged_or_foreign_journal_of_before_is_replaced(tmp_path: Path) -> None:
    records = opened(tmp_path)
    (trial_id,) = proposals(records, 1)
    close(records)
    (tmp_path / "run" / "study.journal").write_text('{"op_code": 0, "worker_id')
    close(opened(tmp_path))
    assert [trial.user_attrs["trial_id"] for trial in read(tmp_path)] == [trial_id]


def test_the_lock_of_a_driver_that_was_killed_while_it_wrote_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = opened(tmp_path)
    proposals(records, 1)
    close(records)
    assert JournalFileSymlinkLock(str(tmp_path / "run" / "study.journal")).acquire()
    monkeypatch.setattr(module, "CLOSE_S", 10.0)
    again = opened(tmp_path)
    (journal,) = again.listeners
    assert isinstance(journal, Journal)
    proposals(again, 1)
    again.close_listeners()
    assert not journal.thread.is_alive(), "it waits for the lock of a process that is gone"
    assert [trial.user_attrs["trial_id"] for trial in read(tmp_path)] == ["0000", "0001"]
