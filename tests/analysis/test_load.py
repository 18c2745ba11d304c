"""A run directory that misses a line, or is read between two writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.trials import VERSION, read_trials

PROPOSED = [{"event": "proposed", "trial_id": name, "params": {}, "config": {}} for name in ("0000", "0001")]
STARTED = [{"event": "started", "trial_id": name} for name in ("0000", "0001")]
ENDED = [{"event": "ended", "trial_id": name, "status": "complete", "reason": ""} for name in ("0000", "0001")]
EPOCHS = [{"trial_id": name, "epoch": 1, "metrics": {"val/f1": 0.5}, "seconds": 1.0} for name in ("0000", "0001")]


def write_run(folder: Path, events: list[dict[str, Any]], epochs: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    search = {"version": VERSION, "search": {"metric": "val/f1", "mode": "max"}}
    (folder / "search.json").write_text(json.dumps(search))
    for name, rows in (("trials.jsonl", events), ("epochs.jsonl", epochs)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_trial_whose_proposal_was_deleted_is_passed_over(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", [PROPOSED[0], *STARTED, *ENDED], EPOCHS))
    assert [(trial.trial_id, trial.status, len(trial.epochs)) for trial in run.trials] == [("0000", "complete", 1)]


def test_an_epoch_that_was_written_after_the_trials_were_read_is_passed_over(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", [PROPOSED[0], STARTED[0]], EPOCHS))
    assert [(trial.trial_id, trial.status, len(trial.epochs)) for trial in run.trials] == [("0000", "running", 1)]


@pytest.mark.parametrize("trial_id", ["../../../precious", "/home/me", "a", "", None, "1e5"])
def test_a_record_names_no_folder_but_one_of_its_run(tmp_path: Path, trial_id: object) -> None:
    """`resume` deletes what ended trials leave in folders of their names."""
    (tmp_path / "search.json").write_text('{"version": 1}')
    row = {"event": "proposed", "trial_id": trial_id, "params": {}, "config": {}}
    (tmp_path / "trials.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(RunError, match="a trial_id is four digits or more"):
        read_trials(tmp_path)
