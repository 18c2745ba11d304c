"""A process that Ray ends because its machine runs low on memory, in the middle of a trial."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Outcome, lines, tiny_search, wait_until

from launch.machines import memory_kills

pytestmark = pytest.mark.with_ray


@pytest.mark.usefixtures("ray_session")
def test_a_trial_that_loses_its_process_to_the_memory_monitor_goes_on_at_half_the_batch(
    visionsweep: Callable[..., Outcome], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed by the test: Ray's own monitor ends whom it likes."""
    monkeypatch.setattr(memory_kills, "_is_memory_kill", lambda exception: True)
    (work / "s.py").write_text(tiny_search(task="binary", epochs=60))
    epochs = work / "runs" / "s" / "epochs.jsonl"
    seen: list[dict[str, Any]] = []

    def kill_once() -> None:
        wait_until(lambda: len(lines(epochs)) >= 3)
        seen.extend(lines(epochs))
        os.kill(int(seen[-1]["pid"]), signal.SIGKILL)

    killer = threading.Thread(target=kill_once, daemon=True)
    killer.start()
    ran = visionsweep("run", "s.py", "--data", work / "photos", "--trials", 1, "--name", "s")
    killer.join(1)
    assert ran.code == 0, ran.err
    assert seen
    rows = lines(epochs)
    assert sorted({row["epoch"] for row in rows}) == list(range(1, 61)), "no epoch is lost"
    assert len({row["pid"] for row in rows}) == 2
    (ended,) = [row for row in lines(work / "runs" / "s" / "trials.jsonl") if row["event"] == "ended"]
    assert ended["status"] == "complete"
    assert "Traceback" not in ran.out + ran.err
