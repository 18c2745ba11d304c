"""Ray's own end: it is noticed, and no trial is blamed for it. `test_kills.py` does it for real."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from launch import callback as module
from launch.callback import RunCallback
from launch.machines.lost import ray_is_gone
from launch.records import Records
from search_spaces import Float, Search
from search_spaces.errors import DiskFull

SEARCH = Search(task="multiclass", space={"lr": Float(0.1, 1)}).for_task("multiclass")


class Progress:
    def ended(self, trial_id: str) -> None: ...


class Failed:
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
    RunCallback(records, SEARCH, progress, 5, {}).on_trial_error(1, [], Failed())
    assert records.trials["0000"].status == status


def test_a_full_disk_ends_the_search_with_the_next_move_and_the_trial_can_go_on(tmp_path: Path) -> None:
    records = Records.create(tmp_path / "run", {"search": {}})
    records.proposed("0000", {}, {}, "sampler")
    progress: Any = Progress()
    reason = "last.pt: the disk is full. Free some space."
    ended = SimpleNamespace(
        config={"trial_id": "0000"}, last_result={"status": "interrupted", "reason": reason, "disk_full": True}
    )
    with pytest.raises(DiskFull, match=r"Free some space\. `visionsweep resume .*run` goes on"):
        RunCallback(records, SEARCH, progress, 5, {}).on_trial_complete(1, [], ended)
    again, _ = Records.open(records.run_dir)
    assert (again.trials["0000"].status, again.trials["0000"].reason) == ("interrupted", reason)


@pytest.mark.usefixtures("ray_session")
def test_a_process_of_a_local_ray_that_has_ended_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_is_gone() == ""
    ended = SimpleNamespace(process=SimpleNamespace(poll=lambda: -9))
    node = SimpleNamespace(all_processes={"raylet": [ended]})
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    assert ray_is_gone() == "its process raylet on this machine is gone"
