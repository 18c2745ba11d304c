"""Which parts of a local Ray are started, and that trials begin in processes with their imports done. Real Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private import accelerators, utils

from launch.machines.ray_settings import AHEAD, preloading

ROOT = Path(__file__).parents[2]
# A trainable as Ray Tune makes an actor of it, on a Ray as `visionsweep run` starts one.
LOOK = """
import json, os, sys, time
from pathlib import Path

def commands():
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getsid(int(pid)) == os.getsid(0):
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\\0", b" ").decode()
        except OSError:
            pass
    return found

import ray
from launch.machines.cluster import local_ray, ready
from launch.machines.ray_settings import AHEAD, trials_environment

class Trial:
    def look(self):
        return {"pid": os.getpid(), "loaded": "trainables.worker.trainable" in sys.modules, "threads": os.environ["OMP_NUM_THREADS"]}

with local_ray(num_cpus=2, settings=AHEAD):
    ready()
    end = time.monotonic() + 120
    while sum("ray::IDLE" in command for command in commands().values()) < 2 and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(5)  # the data is being read; Ray by itself ends what is idle for a second
    before = commands()
    trials_environment(local=True)
    from ray.tune.execution.class_cache import _ActorClassCache
    kind = _ActorClassCache().get(Trial).options(num_cpus=1)
    trials = [kind.remote() for _ in range(2)]
    print("SEEN", json.dumps({"before": before, "trials": ray.get([trial.look.remote() for trial in trials])}))
"""


@pytest.mark.with_ray
def test_a_trial_begins_in_a_process_of_a_bare_ray_that_has_imported_what_it_needs(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    (tmp_path / "look.py").write_text(LOOK)
    done = subprocess.run(
        [sys.executable, tmp_path / "look.py"],
        env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, start_new_session=True, timeout=300,
    )  # fmt: skip
    assert "SEEN" in done.stdout, done.stderr
    seen = json.loads(done.stdout.rpartition("SEEN")[2])
    assert len({trial["pid"] for trial in seen["trials"]}) == 2
    for trial in seen["trials"]:
        assert "ray::IDLE" in seen["before"][str(trial["pid"])], "a process of its own was started"
        assert trial["loaded"]
        assert trial["threads"] == "1"
    running = " ".join(seen["before"].values())
    assert "raylet" in running
    for onlooker in ("dashboard/dashboard.py", "monitor.py", "log_monitor.py"):
        assert onlooker not in running


@pytest.mark.parametrize(
    ("at_once", "cpus", "gpus", "ahead"),
    [
        (None, None, None, True),
        (4, 1.0, 0.0, True),
        (9, None, None, True),
        (3, None, None, False),  # one core would import for nobody
        (None, 2.0, None, False),
        (None, "auto", None, False),
        (None, None, 1.0, False),
        (None, None, "auto", False),
    ],
)
def test_processes_import_ahead_only_where_each_gets_a_trial_of_one_core(
    monkeypatch: pytest.MonkeyPatch,
    at_once: int | None,
    cpus: float | str | None,
    gpus: float | str | None,
    ahead: bool,
) -> None:
    monkeypatch.setattr(utils, "get_num_cpus", lambda: 4)
    no_gpu(monkeypatch)
    assert preloading(at_once, cpus, gpus) == (AHEAD if ahead else {})


def test_processes_import_nothing_ahead_on_a_machine_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch, 1)
    assert preloading(None, None, None) == {}


def test_processes_import_nothing_ahead_where_they_would_find_another_visionsweep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_gpu(monkeypatch)
    (tmp_path / "trainables").mkdir()
    (tmp_path / "trainables" / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [sys.path[0], str(tmp_path), *sys.path[1:]])
    assert preloading(None, None, None) == {}


def no_gpu(monkeypatch: pytest.MonkeyPatch, count: int = 0) -> None:
    monkeypatch.setattr(
        accelerators,
        "get_accelerator_manager_for_resource",
        lambda kind: type("Some", (), {"get_current_node_num_accelerators": staticmethod(lambda: count)}),
    )
