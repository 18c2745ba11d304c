"""`visionsweep status` of a run directory, from the files alone."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from support import Outcome

from launch.jobs import status
from launch.search.records import Records
from search_spaces import Float, Search
from search_spaces.serial import search_to_json
from visionsweep.core.errors import RunError
from visionsweep.run_dir.in_use import in_use
from visionsweep.run_dir.trials import read_search

CLI = Callable[..., Outcome]
SEARCH = Search(task="multiclass", space={"optimizer": {"name": "sgd", "lr": Float(0.01, 1)}}, epochs=4).for_task(
    "multiclass"
)
CONFIG = {"model": {"backbone": "resnet18"}, "optimizer": {"name": "sgd", "lr": 0.1}}


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """A run of twenty trials, of which three are complete and one is running."""
    options = {"num_trials": 20, "budget_s": None}
    started = time.time() - 600
    records = Records.create(
        tmp_path / "runs" / "one", {"search": search_to_json(SEARCH), "options": options, "started": started}
    )
    for trial_id, score in (("0000", 0.5), ("0001", 0.8), ("0002", 0.7), ("0003", 0.4)):
        records.proposed(trial_id, {}, CONFIG, "sampler")
        records.epoch({"trial_id": trial_id, "epoch": 1, "metrics": {"val/accuracy": score}, "seconds": 2.0})
        if trial_id != "0003":
            records.ended(trial_id, "complete", "")
    return records


def test_a_run_that_goes_on_shows_what_its_own_terminal_shows(visionsweep: CLI, records: Records) -> None:
    with records.locked():
        said = visionsweep("status", records.run_dir)
    assert said.code == 0, said.err
    lines = [line.rstrip() for line in said.out.splitlines()]
    assert lines[0] == "3 of 20 trials have ended: 3 complete. 1 running."
    assert re.fullmatch(r"0\.01 epochs/s · begun 10m0\ds ago · about 5[67]m\d\ds left", lines[1]), lines[1]
    assert lines[2] == "best 0.8000 (trial 0001: resnet18, sgd 0.1)"
    assert lines[3].split() == ["trial", "epoch", "val/accuracy", "best", "s/epoch", "configuration"]
    assert lines[4].split(maxsplit=5) == ["0003", "1/4", "0.4000", "0.4000", "2.0", "resnet18, sgd 0.1"]
    assert lines[5] == "then 0002 0.7000, 0000 0.5000"
    assert lines[-1] == f"{records.run_dir}: runs."


def test_a_run_that_nobody_works_on_says_what_to_do(visionsweep: CLI, records: Records) -> None:
    said = visionsweep("status", records.run_dir).out
    assert f"was cut off with 1 running trial. `visionsweep resume {records.run_dir}` resumes from" in said
    records.ended("0003", "interrupted", "the search was asked to stop")
    assert "resumes 1 interrupted trial." in visionsweep("status", records.run_dir).out
    search_json = read_search(records.run_dir)
    records.write_search({**search_json, "ended": "the target val/accuracy >= 0.7 is reached"})
    assert "has ended: the target val/accuracy >= 0.7 is reached." in visionsweep("status", records.run_dir).out
    records.write_search(search_json)
    records.started("0003")
    records.ended("0003", "pruned", "")
    said = visionsweep("status", records.run_dir).out
    assert f"has ended. `visionsweep rank {records.run_dir}` ranks its trials." in said
    assert "epochs/s" not in said


def test_it_is_looked_at_until_it_ends(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LOOK_EVERY_S", 0.05)
    console = Console(record=True, width=160, file=io.StringIO(), force_terminal=False)
    with records.locked():
        watching = threading.Thread(
            target=status.watch, args=(lambda: status.run_view(str(records.run_dir), console), console), daemon=True
        )
        watching.start()
        time.sleep(0.3)
        assert watching.is_alive()
        records.ended("0003", "complete", "")
    watching.join(10)
    assert not watching.is_alive()
    text = console.export_text()
    assert text.index("3 complete. 1 running.") < text.index("4 of 20 trials have ended: 4 complete.")
    assert " ".join(text.split()).endswith("ranks its trials."), "wherever a long path made it wrap"


def test_looking_does_not_keep_anybody_from_working_on_it(records: Records) -> None:
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            in_use(records.run_dir)
            time.sleep(0.001)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        for _ in range(20):
            with records.locked():
                assert in_use(records.run_dir)
    finally:
        looking.set()
    thread.join()
    with records.locked(), pytest.raises(RunError, match="another process is working on this run"), records.locked():
        raise AssertionError("two at once")


def test_a_folder_that_is_no_run_is_named(visionsweep: CLI, tmp_path: Path) -> None:
    refused = visionsweep("status", tmp_path / "nothing")
    assert refused.code == 2
    assert "nothing: is not a run directory" in refused.err


@pytest.mark.parametrize("command", ["status", "rank", "resume"])
def test_a_runs_name_without_its_folder_is_told_where_it_is(visionsweep: CLI, records: Records, command: str) -> None:
    refused = visionsweep(command, records.run_dir.name)
    assert refused.code == 2
    assert "one: is not a run directory (it has no search.json). Did you mean 'runs/one'?" in refused.err
    assert "Known: one." in visionsweep(command, "runs/another").err
