"""The run directory: whole lines, torn ends, what is kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from analysis.load import load_run
from analysis.trials import Trial, read_lines
from launch.records import Records
from search_spaces.errors import RunError
from trainables.config_io import load_config

SEARCH = {"search": {"metric": "val/accuracy", "mode": "max", "epochs": 3}, "data": {}}


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records.create(tmp_path / "run", SEARCH)


def train(records: Records, trial_id: str, scores: list[float], status: str | None, reason: str = "") -> None:
    records.proposed(trial_id, {"lr": 0.1}, {"lr": 0.1}, "sampler")
    records.started(trial_id)
    for epoch, score in enumerate(scores, start=1):
        records.epoch({"trial_id": trial_id, "epoch": epoch, "metrics": {"val/accuracy": score}, "seconds": 1.5})
    if status:
        records.ended(trial_id, status, reason)


def test_what_was_written_is_read_back(records: Records) -> None:
    train(records, "0000", [0.5, 0.9, 0.8], "complete")
    train(records, "0001", [0.4], "pruned", "too low")
    run = load_run(records.run_dir)
    assert [trial.status for trial in run.trials] == ["complete", "pruned"]
    assert run.trials[0].best("val/accuracy", "max") == (0.9, 2)
    assert run.trials[0].seconds == 4.5
    assert run.trials[1].reason == "too low"
    again, search = Records.open(records.run_dir)
    assert again.trials == records.trials
    assert search["search"] == SEARCH["search"]
    assert list(run.curves()["val/accuracy"]) == [0.5, 0.9, 0.8, 0.4]


def test_a_line_that_a_crash_cut_off_is_left_out_and_the_next_one_does_not_join_it(records: Records) -> None:
    train(records, "0000", [0.5, 0.9], None)
    path = records.run_dir / "epochs.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert len(read_lines(path)) == 1
    again, _ = Records.open(records.run_dir)
    assert len(again.trials["0000"].epochs) == 1
    with again.locked():
        again.epoch({"trial_id": "0000", "epoch": 2, "metrics": {"val/accuracy": 0.7}, "seconds": 1.0})
    assert [row["epoch"] for row in read_lines(path)] == [1, 2]


def test_a_damaged_line_in_the_middle_is_named(records: Records) -> None:
    train(records, "0000", [0.5, 0.9], None)
    path = records.run_dir / "epochs.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first[:10]}\n{second}\n")
    with pytest.raises(RunError, match=r"epochs\.jsonl, line 1: is damaged"):
        load_run(records.run_dir)


def test_an_epoch_repeated_after_a_crash_counts_once(records: Records) -> None:
    train(records, "0000", [0.5, 0.9], None)
    records.epoch({"trial_id": "0000", "epoch": 2, "metrics": {"val/accuracy": 0.6}, "seconds": 1.0})
    run = load_run(records.run_dir)
    assert run.trials[0].values("val/accuracy") == {1: 0.5, 2: 0.6}


def test_only_the_best_and_the_unfinished_keep_their_files(records: Records) -> None:
    for trial_id, status in (("0000", "complete"), ("0001", "pruned"), ("0002", "interrupted"), ("0003", None)):
        train(records, trial_id, [0.5], status)
        for room in ("checkpoints", "predictions"):
            folder = records.run_dir / room / trial_id
            folder.mkdir(parents=True)
            (folder / "last.pt").write_text("")
            (folder / ".last.pt.123.partial").write_text("")
            (folder / "epoch-0001.npz").write_text("")
    records.keep_only(["0000"])
    kept = {str(path.relative_to(records.run_dir)) for path in records.run_dir.glob("checkpoints/*/*")}
    assert kept == {
        "checkpoints/0000/epoch-0001.npz",
        "checkpoints/0002/last.pt", "checkpoints/0002/epoch-0001.npz", "checkpoints/0002/.last.pt.123.partial",
        "checkpoints/0003/last.pt", "checkpoints/0003/epoch-0001.npz", "checkpoints/0003/.last.pt.123.partial",
    }  # fmt: skip


def test_another_format_version_is_refused(records: Records) -> None:
    path = records.run_dir / "search.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(RunError, match="is in format 99, and this version of visionsweep reads 1"):
        load_run(records.run_dir)


def test_a_missing_run_offers_its_nearest_neighbour(records: Records) -> None:
    with pytest.raises(RunError, match="Did you mean 'run'"):
        load_run(records.run_dir.with_name("rum"))


def test_a_run_is_never_written_over(records: Records) -> None:
    with pytest.raises(RunError, match="exists already"):
        Records.create(records.run_dir, SEARCH)


def test_one_process_at_a_time_works_on_a_run(records: Records) -> None:
    with records.locked():
        other, _ = Records.open(records.run_dir)
        with pytest.raises(RunError, match="another process is working on this run"), other.locked():
            pass
    with records.locked():
        pass  # the lock was given back


def test_the_best_configuration_is_written_whole_and_can_be_trained(records: Records) -> None:
    config = {
        "task": "binary",
        "model": {"backbone": "test_resnet"},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "epochs": 1,
        "batch_size": 2,
    }
    records.write_best(Trial("0003", {}, config))
    path = records.run_dir / "best.yaml"
    assert path.read_text().startswith("# trial 0003 of run run\n")
    assert load_config(path).optimizer.lr == 0.1
    records.write_best(None)
    assert [file.name for file in records.run_dir.glob("*best*")] == ["best.yaml"]


def test_a_search_json_that_cannot_be_written_is_one_sentence_and_leaves_the_old_one(records: Records) -> None:
    (records.run_dir / f".search.json.{os.getpid()}.partial").mkdir()  # in its way, as a full disk would be
    with pytest.raises(RunError, match=r"cannot be written \(Is a directory\). Free some space"):
        records.write_search({**SEARCH, "resumed": [1.0]})
    assert "resumed" not in Records.open(records.run_dir)[1]
