"""Ray's own end: it is noticed, and no trial is blamed for it. `test_kills.py` does it for real."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune

from launch.machines.ray_watchdog import ray_is_gone
from launch.search import callback as module
from launch.search.callback import RunCallback
from launch.search.hang_detection import HangDetector
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from launch.search.tuning import MAX_RETRIES, tune_until_done
from launch.trial_notes import TrialNotes
from search_spaces import Float, Search
from visionsweep.core.errors import DiskFull
from visionsweep.core.names import COSTS

pytestmark = pytest.mark.with_ray

SEARCH = Search(task="multiclass", space={"lr": Float(0.1, 1)}).for_task("multiclass")


class Progress:
    def began(self, trial_id: str) -> None: ...
    def epoch(self, trial_id: str) -> None: ...
    def ended(self, trial_id: str) -> None: ...


class Failed:
    trial_id = "a"

    def __init__(self) -> None:
        self.config = {"trial_id": "0000"}

    def get_error(self) -> str:
        return "the actor died"

    get_pickled_error = get_error


@pytest.mark.parametrize(("gone", "status"), [("its process raylet is gone", "running"), ("", "failed")])
def test_a_trial_is_not_blamed_for_the_end_of_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str, status: str
) -> None:
    records = Records.create(tmp_path / "run", {"search": {}})
    records.proposed("0000", {}, {}, "sampler")
    monkeypatch.setattr(module, "ray_is_gone", lambda: gone)
    progress: Any = Progress()
    RunCallback(records, SEARCH, progress, 5, TrialNotes()).on_trial_error(1, [], Failed())
    assert records.trials["0000"].status == status


def test_a_full_disk_ends_the_search_with_the_next_move_and_the_trial_can_go_on(tmp_path: Path) -> None:
    records = Records.create(tmp_path / "run", {"search": {}})
    records.proposed("0000", {}, {}, "sampler")
    progress: Any = Progress()
    reason = "last.pt: the disk is full. Free some space."
    ended = SimpleNamespace(
        config={"trial_id": "0000"}, last_result={"status": "interrupted", "reason": reason, "disk_full": True}
    )
    with pytest.raises(DiskFull, match=r"Free some space\. `visionsweep resume .*run` resumes"):
        RunCallback(records, SEARCH, progress, 5, TrialNotes()).on_trial_complete(1, [], ended)
    again, _ = Records.open(records.run_dir)
    assert (again.trials["0000"].status, again.trials["0000"].reason) == ("interrupted", reason)


@pytest.mark.usefixtures("ray_session")
def test_a_process_of_a_local_ray_that_has_ended_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_is_gone() == ""
    ended = SimpleNamespace(process=SimpleNamespace(poll=lambda: -9))
    node = SimpleNamespace(all_processes={"raylet": [ended]})
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    assert ray_is_gone() == "its process raylet on this machine is gone"


def dying(deaths: Path, times: int) -> Any:
    """Return a trainable of one epoch whose process dies `times` times as soon as it has trial 0001."""

    class Dying(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self.trial = config["trial_id"]
            if self.trial == "0001" and len(list(deaths.iterdir())) < times:
                (deaths / str(os.getpid())).touch()
                os.kill(os.getpid(), signal.SIGKILL)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            row = {"epoch": 1, "metrics": {"val/accuracy": 0.5}, "seconds": 0.1, "images_per_s": 1.0, "lr": 0.1}
            costs = dict.fromkeys(COSTS, 1.0)
            return {**row, **costs, "val/accuracy": 0.5, "trial_id": self.trial, "status": "complete", "done": True}

    return tune.with_resources(Dying, {"cpu": 1})


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("times", "status"), [(1, "complete"), (99, "failed")])
def test_a_process_that_dies_while_it_is_handed_to_a_trial_is_no_failure_of_the_trial(
    tmp_path: Path, times: int, status: str
) -> None:
    space = {"optimizer": {"name": "sgd", "lr": Float(0.1, 1)}, "model": {"backbone": "test_resnet"}, "batch_size": 8}
    search = Search(task="multiclass", space=space, epochs=1).for_task("multiclass")
    records = Records.create(tmp_path / "run", {"search": {}})
    notes = TrialNotes()
    # One at a time, so that processes are handed on.
    searcher = StudySearcher(search, records, 0, 4, None, notes=notes, at_once=lambda: 1)
    progress: Any = Progress()
    callback = RunCallback(records, search, progress, 5, notes)
    watch = HangDetector(records.run_dir, MAX_RETRIES, notes)
    (tmp_path / "deaths").mkdir()
    tune_until_done(dying(tmp_path / "deaths", times), searcher, search, callback, watch, 1)
    statuses = {name: trial.status for name, trial in records.trials.items()}
    assert statuses == {"0000": "complete", "0001": status, "0002": "complete", "0003": "complete"}
    assert len(list((tmp_path / "deaths").iterdir())) == (1 if times == 1 else 1 + MAX_RETRIES + 1)
    assert [trial.state.name for trial in searcher.study.trials] == [
        "COMPLETE", "COMPLETE" if times == 1 else "FAIL", "COMPLETE", "COMPLETE",
    ]  # fmt: skip
